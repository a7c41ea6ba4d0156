//! HAProxy's end of one connection: blocking, with a timeout for every wait.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use ringspoa::spop::{Frame, FrameType};

use super::frames;
use super::judge::{AgentHelloSeen, describe, judge_hello};
use super::socket::Socket;
use super::trial::{Stop, Trial};

/// The longest frame taken from an agent before its HELLO was understood: HAProxy's default buffer,
/// which an offer may exceed.
const LEAST_LIMIT: u32 = 16_380;

/// A frame an agent sent, prefix included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned(Vec<u8>);

impl Owned {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The frame; it was split once, so it can be again.
    pub(super) fn frame(&self) -> Frame<'_> {
        match Frame::split(&self.0, u32::MAX) {
            Ok(Some((frame, _))) => frame,
            other => unreachable!("a frame that was split before: {other:?}"),
        }
    }

    /// Its length as SPOP counts it, without the prefix.
    pub(super) fn frame_len(&self) -> usize {
        self.0.len() - ringspoa::spop::PREFIX_LEN
    }
}

/// What a wait ended with.
#[derive(Debug)]
pub(super) enum Came {
    /// A whole frame, within the limit.
    Frame(Owned),
    /// The agent closed or reset the connection.
    End(&'static str),
    /// Nothing, up to the end of the wait.
    Silence,
    /// Bytes that are no frame, or too large a one, and why.
    Junk(String),
}

/// One connection to the agent.
#[derive(Debug)]
pub(super) struct Peer<'t> {
    trial: &'t Trial<'t>,
    number: u32,
    socket: Socket,
    input: Vec<u8>,
    ended: Option<&'static str>,
    /// What the agent's frames must keep to: the offer, and once HELLO is through, what was agreed.
    pub(super) max_frame_size: u32,
    /// What the agent's HELLO said.
    pub(super) hello: Option<AgentHelloSeen>,
}

impl<'t> Peer<'t> {
    pub(super) fn new(trial: &'t Trial<'t>, number: u32, socket: Socket, offer: u32) -> Self {
        Self {
            trial,
            number,
            socket,
            input: Vec::new(),
            ended: None,
            max_frame_size: offer.max(LEAST_LIMIT),
            hello: None,
        }
    }

    /// Sends all of it. What an agent that has closed does not take is no failure: what it said before
    /// is what counts, and that is read next.
    pub(super) fn send(&mut self, what: &str, bytes: &[u8]) -> Result<(), Stop> {
        self.trial.sent(self.number, what, bytes);
        let (mut rest, until) = (bytes, Instant::now() + self.trial.timeout());
        while !rest.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            match self.socket.write_some(rest, left) {
                Ok(len) => rest = &rest[len..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    return Err(Stop::failed(format!(
                        "the agent did not read what was sent to it within {:?}",
                        self.trial.timeout()
                    )));
                }
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Sends what the socket takes within a wait, and says how much that was.
    pub(super) fn send_some(&mut self, bytes: &[u8], within: Duration) -> usize {
        self.socket.write_some(bytes, within).unwrap_or(0)
    }

    /// The next thing that comes, within the timeout.
    pub(super) fn receive(&mut self) -> Result<Came, Stop> {
        self.receive_within(self.trial.timeout())
    }

    pub(super) fn receive_within(&mut self, within: Duration) -> Result<Came, Stop> {
        let until = Instant::now() + within;
        loop {
            match Frame::split(&self.input, self.max_frame_size) {
                Ok(None) => {}
                Ok(Some((_, used))) => {
                    let rest = self.input.split_off(used);
                    let frame = Owned(std::mem::replace(&mut self.input, rest));
                    self.trial
                        .came(self.number, &describe(&frame.frame()), frame.bytes());
                    return Ok(Came::Frame(frame));
                }
                Err(error) => {
                    let bytes = std::mem::take(&mut self.input);
                    let text = format!("bytes that are no frame here: {error}");
                    self.trial.came(self.number, &text, &bytes);
                    return Ok(Came::Junk(error.to_string()));
                }
            }
            if let Some(how) = self.ended {
                if self.input.is_empty() {
                    return Ok(Came::End(how));
                }
                let bytes = std::mem::take(&mut self.input);
                self.trial.came(self.number, "a part of a frame", &bytes);
                return Ok(Came::Junk(format!("the agent {how} inside a frame")));
            }
            if !self.read_more(until)? {
                return Ok(Came::Silence);
            }
        }
    }

    /// Reads once; false if nothing came in time.
    pub(super) fn read_more(&mut self, until: Instant) -> Result<bool, Stop> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left = self.trial.limited(left)?;
        let start = self.input.len();
        self.input.resize(start + 65_536, 0);
        let result = self.socket.read_some(&mut self.input[start..], left);
        self.input.truncate(start + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => {
                self.ended = Some("closed the connection");
                self.trial.came(self.number, "the connection's end", b"");
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whose end it was, the timeout's or the run's, the next turn of the loop finds out.
            Err(error) if is_timeout(&error) => {}
            Err(_) => {
                self.ended = Some("reset the connection");
                self.trial.came(self.number, "a reset", b"");
            }
        }
        Ok(true)
    }

    /// What was read and is no whole frame yet, or not taken.
    pub(super) fn unread(&self) -> &[u8] {
        &self.input
    }

    /// Which connection of the rule it is, from 1.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Ends our side; the agent may still talk.
    pub(super) fn finish(&self) {
        self.trial
            .sent(self.number, "the end of our side (FIN)", b"");
        self.socket.finish();
    }

    /// Ends the connection with a reset, where there is such a thing.
    pub(super) fn reset(self) {
        self.trial.sent(self.number, "a reset", b"");
        self.socket.reset();
    }

    /// Says HELLO and takes the answer.
    pub(super) fn introduce(&mut self, capabilities: &str) -> Result<(), Stop> {
        let offer = self.trial.offer();
        self.send(
            &format!("HAPROXY-HELLO, max-frame-size {offer}, capabilities \"{capabilities}\""),
            &frames::hello(offer, capabilities),
        )?;
        self.expect_hello(offer)?;
        let (agreed, needed) = (self.max_frame_size, self.trial.plan.profile.max_frame_len());
        if (agreed as usize) < needed {
            return Err(Stop::NotApplicable(format!(
                "NOTIFYs of the profile have up to {needed} bytes, and the agent takes {agreed}: give a \
                 smaller --profile"
            )));
        }
        Ok(())
    }

    /// Takes an AGENT-HELLO that HAProxy would take.
    pub(super) fn expect_hello(&mut self, offer: u32) -> Result<(), Stop> {
        let came = self.receive()?;
        let Came::Frame(owned) = came else {
            return Err(missed("AGENT-HELLO", &came, self.trial));
        };
        let hello = judge_hello(&owned.frame(), offer).map_err(Stop::failed)?;
        self.max_frame_size = hello.max_frame_size;
        self.trial.met(&hello);
        self.hello = Some(hello);
        Ok(())
    }

    /// Not applicable to an agent that did not announce this.
    pub(super) fn needs(&self, capability: &str) -> Result<(), Stop> {
        match &self.hello {
            Some(hello) if !hello.announces(capability) => Err(Stop::NotApplicable(format!(
                "the agent does not announce {capability}"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether the agent announced this.
    pub(super) fn announced(&self, capability: &str) -> bool {
        self.hello
            .as_ref()
            .is_some_and(|hello| hello.announces(capability))
    }

    /// Takes any ACK that HAProxy would look at.
    pub(super) fn expect_any_ack(&mut self) -> Result<Owned, Stop> {
        let came = self.receive()?;
        let Came::Frame(owned) = came else {
            return Err(missed("an ACK", &came, self.trial));
        };
        let frame = owned.frame();
        if frame.frame_type != FrameType::Ack {
            let text = format!("an ACK was due, and {} came", describe(&frame));
            return Err(Stop::failed(text));
        }
        if !frame.flags.is_fin() {
            let text = format!("the ACK has flags 0x{:08x}, without FIN", frame.flags.0);
            return Err(Stop::failed(text));
        }
        Ok(owned)
    }

    /// Takes the ACK of these ids.
    pub(super) fn expect_ack(&mut self, stream_id: u64, frame_id: u64) -> Result<Owned, Stop> {
        let owned = self.expect_any_ack()?;
        let frame = owned.frame();
        if (frame.stream_id.0, frame.frame_id.0) == (stream_id, frame_id) {
            return Ok(owned);
        }
        Err(Stop::failed(format!(
            "the ACK of stream-id {stream_id}, frame-id {frame_id} was due, and one of stream-id {}, \
             frame-id {} came",
            frame.stream_id, frame.frame_id
        )))
    }

    /// Sends one NOTIFY and takes its ACK.
    pub(super) fn ask(
        &mut self,
        what: &str,
        (stream_id, frame_id): (u64, u64),
        payload: &[u8],
    ) -> Result<Owned, Stop> {
        let what = format!("NOTIFY {stream_id}/{frame_id}: {what}");
        self.send(&what, &frames::notify(stream_id, frame_id, payload))?;
        self.expect_ack(stream_id, frame_id)
            .map_err(|stop| match stop {
                Stop::Failed(text) => Stop::Failed(format!("{text} (for {what})")),
                other => other,
            })
    }

    /// Nothing more may come, for a short time.
    pub(super) fn expect_nothing(&mut self, what: &str) -> Result<(), Stop> {
        match self.receive_within(self.trial.settle())? {
            Came::Silence => Ok(()),
            came => Err(Stop::failed(format!("{what}, but {}", shown(&came)))),
        }
    }

    /// Takes AGENT-DISCONNECT or the end of the connection.
    pub(super) fn expect_refusal(&mut self, of: &str) -> Result<(), Stop> {
        match self.receive()? {
            Came::End(_) => Ok(()),
            Came::Frame(owned) if owned.frame().frame_type == FrameType::AgentDisconnect => Ok(()),
            Came::Silence => Err(Stop::failed(format!(
                "{of} was neither refused nor was the connection closed within {:?}",
                self.trial.timeout()
            ))),
            came => Err(Stop::failed(format!(
                "{of} must be refused with AGENT-DISCONNECT or a close, but {}",
                shown(&came)
            ))),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What came, as the end of a sentence.
pub(super) fn shown(came: &Came) -> String {
    match came {
        Came::Frame(owned) => format!("{} came", describe(&owned.frame())),
        Came::End(how) => format!("the agent {how}"),
        Came::Silence => "nothing came".to_owned(),
        Came::Junk(why) => format!("what came is no valid frame: {why}"),
    }
}

/// The failure that something else came than was due.
pub(super) fn missed(due: &str, came: &Came, trial: &Trial<'_>) -> Stop {
    Stop::failed(match came {
        Came::Silence => format!("{due} did not come within {:?}", trial.timeout()),
        came => format!("{due} was due, and {}", shown(came)),
    })
}
