//! The `spop` crate served by tokio on one thread, answering what `ringspoa serve` answers: the
//! server that `scripts/bench` compares with.
//!
//! `ringspoa-bench-peers each|batched ADDR|unix:PATH CPU`. `each` sends every ACK on its own, as the
//! crate's examples do; `batched` is the best that can be done with its codec: ACKs are flushed when
//! no further frame has arrived.

use std::error::Error;
use std::net::IpAddr;
use std::rc::Rc;

use futures_util::{FutureExt, SinkExt, StreamExt};
use ringspoa::agents::remediation::{AddressTable, embedded};
use spop::actions::VarScope;
use spop::frame::{FramePayload, FrameType, Message};
use spop::frames::{Ack, AgentDisconnect, AgentHello, FrameCapabilities, HaproxyHello};
use spop::{SpopCodec, SpopFrame, StatusCode, TypedData};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::codec::Framed;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, address, cpu] = &arguments[..] else {
        return Err("usage: ringspoa-bench-peers each|batched ADDR|unix:PATH CPU".into());
    };
    let batched = match mode.as_str() {
        "each" => false,
        "batched" => true,
        _ => return Err(format!("mode '{mode}': want each or batched").into()),
    };
    if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu.parse()? }) {
        return Err(format!("cannot pin to CPU {cpu}").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let table = Rc::new(embedded());
    tokio::task::LocalSet::new().block_on(&runtime, serve(address, table, batched))
}

async fn serve(
    address: &str,
    table: Rc<AddressTable>,
    batched: bool,
) -> Result<(), Box<dyn Error>> {
    if let Some(path) = address.strip_prefix("unix:") {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(connection(stream, Rc::clone(&table), batched));
        }
    }
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::task::spawn_local(connection(stream, Rc::clone(&table), batched));
    }
}

/// Serves one connection; its end is not an error worth a word.
async fn connection<S>(stream: S, table: Rc<AddressTable>, batched: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = Framed::new(stream, SpopCodec::default());
    while let Some(Ok(first)) = socket.next().await {
        let mut frame = first;
        loop {
            let is_notify = *frame.frame_type() == FrameType::Notify;
            let Some(answer) = answer(frame, &table, &mut socket) else {
                return;
            };
            if socket.feed(answer).await.is_err() {
                return;
            }
            if !batched || !is_notify {
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
    table: &AddressTable,
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
            if let FramePayload::ListOfMessages(messages) = frame.payload()
                && let Some(word) = remediation(messages, table)
            {
                ack = ack.set_var(VarScope::Transaction, "remediation", word);
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
