//! The `spop` crate served by tokio on one thread, answering what `ringspoa serve` answers.

use std::error::Error;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use ringspoa::ListenAddress;
use ringspoa::agents::remediation::{AddressTable, embedded};

use crate::validate::Validator;
use spop::actions::VarScope;
use spop::frame::{FramePayload, FrameType, Message};
use spop::frames::{Ack, AgentDisconnect, AgentHello, FrameCapabilities, HaproxyHello};
use spop::{SpopCodec, SpopFrame, StatusCode, TypedData};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::codec::Framed;

/// How a connection's task works off what has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Each ACK is sent on its own.
    Each,
    /// ACKs are flushed when no further frame has arrived.
    Batched,
    /// As `Each`, and the task sleeps this long before each ACK.
    EachAfter(Duration),
}

/// What a NOTIFY is answered by.
pub(crate) enum Answers {
    /// Whether the address is banned.
    Addresses(AddressTable),
    /// Whether the cookie is good.
    Cookies(Validator),
}

impl Answers {
    pub(crate) fn addresses() -> Self {
        Self::Addresses(embedded())
    }

    fn add_to(&self, messages: &[Message], ack: Ack) -> Ack {
        match self {
            Self::Addresses(table) => match remediation(messages, table) {
                Some(word) => ack.set_var(VarScope::Transaction, "remediation", word),
                None => ack,
            },
            Self::Cookies(validator) => validator.add_to(messages, ack),
        }
    }
}

pub(crate) fn serve(
    address: &ListenAddress,
    style: Style,
    answers: Answers,
) -> Result<(), Box<dyn Error>> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_io();
    // Timers cost a look at the clock each turn, which the fast styles shall not pay.
    if matches!(style, Style::EachAfter(_)) {
        builder.enable_time();
    }
    let runtime = builder.build()?;
    let accepting = accept(address, Rc::new(answers), style);
    tokio::task::LocalSet::new().block_on(&runtime, accepting)?;
    Ok(())
}

async fn accept(
    address: &ListenAddress,
    answers: Rc<Answers>,
    style: Style,
) -> std::io::Result<()> {
    match address {
        ListenAddress::Unix { path, .. } => {
            let _ = std::fs::remove_file(path);
            let listener = UnixListener::bind(path)?;
            loop {
                let (stream, _) = listener.accept().await?;
                tokio::task::spawn_local(connection(stream, Rc::clone(&answers), style));
            }
        }
        ListenAddress::Tcp(address) => {
            let listener = TcpListener::bind(address).await?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::task::spawn_local(connection(stream, Rc::clone(&answers), style));
            }
        }
    }
}

/// Serves one connection; its end is not an error worth a word.
async fn connection<S>(stream: S, answers: Rc<Answers>, style: Style)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = Framed::new(stream, SpopCodec::default());
    while let Some(Ok(first)) = socket.next().await {
        let mut frame = first;
        loop {
            let is_notify = *frame.frame_type() == FrameType::Notify;
            let Some(answer) = answer(frame, &answers, &mut socket) else {
                return;
            };
            if let (Style::EachAfter(delay), true) = (style, is_notify) {
                tokio::time::sleep(delay).await;
            }
            if socket.feed(answer).await.is_err() {
                return;
            }
            if style != Style::Batched || !is_notify {
                break;
            }
            match socket.next().now_or_never() {
                Some(Some(Ok(next))) => frame = next,
                Some(_) => return,
                None => break,
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

fn answer<S>(
    frame: Box<dyn SpopFrame>,
    answers: &Answers,
    socket: &mut Framed<S, SpopCodec>,
) -> Option<Box<dyn SpopFrame>> {
    match frame.frame_type() {
        FrameType::HaproxyHello => {
            let hello = HaproxyHello::try_from(frame.payload()).ok()?;
            let max_frame_size = hello.negotiate_max_frame_size(65_532).ok()?;
            socket.codec_mut().set_max_frame_size(max_frame_size);
            Some(Box::new(AgentHello {
                version: hello.negotiate_version()?,
                max_frame_size,
                capabilities: vec![FrameCapabilities::Pipelining],
            }))
        }
        FrameType::Notify => {
            let metadata = frame.metadata();
            let mut ack = Ack::new(metadata.stream_id, metadata.frame_id);
            if let FramePayload::ListOfMessages(messages) = frame.payload() {
                ack = answers.add_to(messages, ack);
            }
            Some(Box::new(ack))
        }
        _ => Some(Box::new(AgentDisconnect {
            status_code: StatusCode::None.to_u32(),
            message: StatusCode::None.message().to_string(),
        })),
    }
}

/// The same decision as the built-in agent's.
fn remediation(messages: &[Message], table: &AddressTable) -> Option<&'static str> {
    let mut remediation = None;
    for message in messages {
        for (name, value) in &message.args {
            if !matches!(name.as_str(), "ip" | "src" | "src-ip") {
                continue;
            }
            let address = match value {
                TypedData::IPv4(address) => IpAddr::V4(*address),
                TypedData::IPv6(address) => IpAddr::V6(*address),
                _ => continue,
            };
            if table.contains(address) {
                remediation = Some("ban");
            } else {
                remediation.get_or_insert("allow");
            }
        }
    }
    remediation
}
