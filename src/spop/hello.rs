//! HAPROXY-HELLO and AGENT-HELLO (spec 3.2.4, 3.2.5), and the key-value pairs they are made of.

use super::data::TypedData;
use super::error::{DecodeError, EncodeError, Field};
use super::frame::{Frame, FrameType, FrameWriter, MIN_MAX_FRAME_SIZE};
use super::reader::Reader;

/// The one version of the protocol there is; "1.0" went away before HAProxy 1.8.10.
pub const VERSION: &str = "2.0";

/// The pairs of a control frame's payload, in order.
pub(super) struct Pairs<'a>(Reader<'a>);

impl<'a> Pairs<'a> {
    /// Checks what HELLO and DISCONNECT frames have in common: their type, FIN, ids of 0.
    pub(super) fn of(frame: &Frame<'a>, expected: FrameType) -> Result<Self, DecodeError> {
        if frame.frame_type != expected {
            return Err(DecodeError::UnexpectedFrame(frame.frame_type));
        }
        if !frame.flags.is_fin() {
            return Err(DecodeError::NotFinal);
        }
        if frame.stream_id.0 != 0 || frame.frame_id.0 != 0 {
            return Err(DecodeError::NonZeroId);
        }
        Ok(Self(Reader::new(frame.payload)))
    }

    pub(super) fn next(&mut self) -> Result<Option<(&'a [u8], TypedData<'a>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.0.decode(|reader| {
            let key = reader.string()?;
            if key.is_empty() {
                return reader.fail(DecodeError::EmptyKey);
            }
            Some(Some((key, TypedData::read(reader)?)))
        })
    }
}

/// The text of a field that must be a STRING.
pub(super) fn text<'a>(field: Field, value: TypedData<'a>) -> Result<&'a [u8], DecodeError> {
    match value {
        TypedData::String(bytes) => Ok(bytes),
        _ => Err(DecodeError::WrongFieldType(field)),
    }
}

/// The value of a field that may be any of the four integer types, as HAProxy itself allows.
pub(super) fn integer(field: Field, value: TypedData<'_>) -> Result<u64, DecodeError> {
    value.as_u64().ok_or(DecodeError::WrongFieldType(field))
}

fn frame_size(value: TypedData<'_>) -> Result<u32, DecodeError> {
    let size = integer(Field::MaxFrameSize, value)?;
    match u32::try_from(size) {
        Ok(size) if size >= MIN_MAX_FRAME_SIZE => Ok(size),
        _ => Err(DecodeError::BadMaxFrameSize(size)),
    }
}

/// Whether a comma-separated list has this word; spaces around words do not count.
fn list_has(list: &[u8], wanted: &[u8]) -> bool {
    list.split(|&byte| byte == b',')
        .any(|word| word.trim_ascii() == wanted)
}

/// HAPROXY-HELLO: the first frame of a connection (spec 3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HaproxyHello<'a> {
    /// Comma-separated list, always "2.0" from HAProxy.
    pub supported_versions: &'a [u8],
    /// The largest frame HAProxy reads or sends, in bytes without prefix; at least 256.
    pub max_frame_size: u32,
    /// Comma-separated list, may be empty.
    pub capabilities: &'a [u8],
    /// The engine of a group of connections; absent in health checks.
    pub engine_id: Option<&'a [u8]>,
    /// A health check, which wants an AGENT-HELLO and closes.
    pub healthcheck: bool,
}

impl<'a> HaproxyHello<'a> {
    /// Decodes a HAPROXY-HELLO. Keys may come in any order; unknown ones are ignored.
    ///
    /// # Errors
    ///
    /// `UnexpectedFrame`, `NotFinal` or `NonZeroId` for the header, `MissingField`,
    /// `WrongFieldType`, `BadMaxFrameSize` or `EmptyKey` for the pairs, and those of
    /// [`TypedData::decode`].
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let mut pairs = Pairs::of(frame, FrameType::HaproxyHello)?;
        let (mut versions, mut size, mut capabilities) = (None, None, None);
        let (mut engine_id, mut healthcheck) = (None, false);
        while let Some((key, value)) = pairs.next()? {
            match key {
                b"supported-versions" => versions = Some(text(Field::SupportedVersions, value)?),
                b"max-frame-size" => size = Some(value),
                b"capabilities" => capabilities = Some(text(Field::Capabilities, value)?),
                b"engine-id" => engine_id = Some(text(Field::EngineId, value)?),
                b"healthcheck" => {
                    let wrong = DecodeError::WrongFieldType(Field::Healthcheck);
                    healthcheck = value.as_bool().ok_or(wrong)?;
                }
                _ => {}
            }
        }
        Ok(Self {
            supported_versions: versions
                .ok_or(DecodeError::MissingField(Field::SupportedVersions))?,
            max_frame_size: frame_size(
                size.ok_or(DecodeError::MissingField(Field::MaxFrameSize))?,
            )?,
            capabilities: capabilities.ok_or(DecodeError::MissingField(Field::Capabilities))?,
            engine_id,
            healthcheck,
        })
    }

    /// Encodes a HAPROXY-HELLO at the front of `out`, keys in HAProxy's order, returning the bytes
    /// used.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut frame = FrameWriter::begin_control(out, u32::MAX, FrameType::HaproxyHello)?;
        frame.pair(
            Field::SupportedVersions,
            TypedData::String(self.supported_versions),
        )?;
        frame.pair(Field::MaxFrameSize, TypedData::Uint32(self.max_frame_size))?;
        frame.pair(Field::Capabilities, TypedData::String(self.capabilities))?;
        if let Some(engine_id) = self.engine_id {
            frame.pair(Field::EngineId, TypedData::String(engine_id))?;
        }
        if self.healthcheck {
            frame.pair(Field::Healthcheck, TypedData::Bool(true))?;
        }
        Ok(frame.finish())
    }

    /// Whether the list of versions has 2.0.
    #[must_use]
    pub fn supports_version_2(&self) -> bool {
        list_has(self.supported_versions, VERSION.as_bytes())
    }

    /// Whether the list of capabilities has this word.
    #[must_use]
    pub fn has_capability(&self, capability: &str) -> bool {
        list_has(self.capabilities, capability.as_bytes())
    }
}

/// AGENT-HELLO: the agent's answer (spec 3.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentHello<'a> {
    /// The version chosen: "2.0".
    pub version: &'a [u8],
    /// The largest frame of either side from now on, in bytes without prefix; at least 256, at
    /// most what HAProxy offered.
    pub max_frame_size: u32,
    /// Comma-separated list, may be empty.
    pub capabilities: &'a [u8],
}

impl<'a> AgentHello<'a> {
    /// Decodes an AGENT-HELLO. Keys may come in any order; unknown ones are ignored.
    ///
    /// # Errors
    ///
    /// As [`HaproxyHello::decode`].
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let mut pairs = Pairs::of(frame, FrameType::AgentHello)?;
        let (mut version, mut size, mut capabilities) = (None, None, None);
        while let Some((key, value)) = pairs.next()? {
            match key {
                b"version" => version = Some(text(Field::Version, value)?),
                b"max-frame-size" => size = Some(value),
                b"capabilities" => capabilities = Some(text(Field::Capabilities, value)?),
                _ => {}
            }
        }
        Ok(Self {
            version: version.ok_or(DecodeError::MissingField(Field::Version))?,
            max_frame_size: frame_size(
                size.ok_or(DecodeError::MissingField(Field::MaxFrameSize))?,
            )?,
            capabilities: capabilities.ok_or(DecodeError::MissingField(Field::Capabilities))?,
        })
    }

    /// Encodes an AGENT-HELLO at the front of `out`, returning the bytes used. It always has all
    /// three keys: the health checks of HAProxy 3.1 and later fail without one of them.
    ///
    /// # Errors
    ///
    /// `Full` if it does not fit.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut frame = FrameWriter::begin_control(out, u32::MAX, FrameType::AgentHello)?;
        frame.pair(Field::Version, TypedData::String(self.version))?;
        frame.pair(Field::MaxFrameSize, TypedData::Uint32(self.max_frame_size))?;
        frame.pair(Field::Capabilities, TypedData::String(self.capabilities))?;
        Ok(frame.finish())
    }

    /// Whether the list of capabilities has this word.
    #[must_use]
    pub fn has_capability(&self, capability: &str) -> bool {
        list_has(self.capabilities, capability.as_bytes())
    }
}

impl FrameWriter<'_> {
    pub(super) fn pair(&mut self, field: Field, value: TypedData<'_>) -> Result<(), EncodeError> {
        self.writer.string(field.key().as_bytes())?;
        value.write(&mut self.writer)
    }
}
