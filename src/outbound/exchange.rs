//! One request and its answer on a connection of the pool.

use std::cell::Cell;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

use super::connect::{Connection, MAX_HEAD_LEN};
use super::error::{OutboundFault, Part, Phase};
use super::pool::{Pool, Pooled};
use super::request::{Head, Request, Response};
use super::shared::Completion;
use super::tls;

/// Longest text of a redirect's target in an error.
const MAX_LOCATION_LEN: usize = 200;

/// Timers of tokio are rounded up to this.
const TIMER_TICK: Duration = Duration::from_millis(1);

/// A call on its way.
pub(super) struct Call {
    pub(super) request: Request,
    /// How long it may take, and from when on.
    pub(super) deadline: Duration,
    pub(super) began: std::time::Instant,
    pub(super) max_response_len: usize,
    pub(super) completion: Completion,
}

impl Call {
    /// Makes the call and calls back, at the deadline at the latest.
    pub(super) async fn run(self, pool: Rc<Pool>) {
        let phase = Cell::new(Phase::Connecting);
        match self.exchange_in_time(&pool, &phase).await {
            Some(Ok((response, pooled))) => {
                let kept_for = keep_alive(&response.head);
                let mut give_back = pin!(pool.give_back(pooled, kept_for));
                // The connection first, so that a call made by the callback finds it. It is ready as
                // soon as its own task has seen the end of the answer.
                let mut is_back = poll_once(give_back.as_mut()).await;
                if !is_back {
                    yield_now().await;
                    is_back = poll_once(give_back.as_mut()).await;
                }
                self.completion.finish(Ok(response));
                if !is_back {
                    give_back.await;
                }
            }
            Some(Err(fault)) => self.completion.finish(Err(fault)),
            None => self.completion.finish(Err(OutboundFault::Timeout {
                after: self.deadline,
                phase: phase.get(),
            })),
        }
        pool.refill();
    }

    /// `None` if the deadline passed.
    async fn exchange_in_time(
        &self,
        pool: &Rc<Pool>,
        phase: &Cell<Phase>,
    ) -> Option<Result<(Response, Pooled), OutboundFault>> {
        let exchange = self.exchange(pool, phase);
        match self.began.checked_add(self.deadline) {
            // It may have waited for others; a timer would give it a millisecond all the same.
            Some(at) if at <= std::time::Instant::now() => None,
            Some(at) => {
                let at = Instant::from_std(at.checked_sub(TIMER_TICK).unwrap_or(at));
                timeout_at(at, exchange).await.ok()
            }
            None => Some(exchange.await),
        }
    }

    async fn exchange(
        &self,
        pool: &Rc<Pool>,
        phase: &Cell<Phase>,
    ) -> Result<(Response, Pooled), OutboundFault> {
        let Answer { head, body, pooled } =
            begin(pool, &self.request, &Waits::default(), Retry::IfSafe, phase).await?;
        phase.set(Phase::Reading);
        let body = read_body(body, self.max_response_len, &pooled.connection).await?;
        Ok((Response { head, body }, pooled))
    }
}

/// Whether it is done, without waiting for it.
async fn poll_once(mut future: Pin<&mut impl Future<Output = ()>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await
}

/// An answer whose body is still to come.
pub(super) struct Answer {
    pub(super) head: Head,
    pub(super) body: Incoming,
    pub(super) pooled: Pooled,
}

/// How long the steps may take, unless a deadline holds for all of them.
#[derive(Default)]
pub(super) struct Waits {
    pub(super) connection: Option<Duration>,
    pub(super) head: Option<Duration>,
}

/// When a request goes out once more because the connection, kept from before, was closed without a
/// word: servers close what is idle, and the request may meet the closing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// If nothing of it was written, or its method is safe.
    IfSafe,
    /// If nothing of it was written.
    IfUnsent,
}

/// Sends the request and waits for the head of its answer.
pub(super) async fn begin(
    pool: &Rc<Pool>,
    request: &Request,
    waits: &Waits,
    retry: Retry,
    phase: &Cell<Phase>,
) -> Result<Answer, OutboundFault> {
    let counters = &pool.shared.counters;
    let connector = &pool.connector;
    let via_proxy = connector.via_proxy();
    let uri = request.uri(&connector.target, via_proxy.is_some())?;
    let mut is_retry = false;
    loop {
        phase.set(Phase::Connecting);
        let mut pooled = within(waits.connection, phase, pool.take(phase)).await??;
        phase.set(Phase::Waiting);
        // Not before: what waits for a connection should be small.
        let message = request.to_message(uri.clone(), &connector.target, via_proxy.as_ref())?;
        let connection = &mut pooled.connection;
        let is_kept = connection.is_kept;
        connection.is_kept = true;
        if is_kept {
            counters.reuses.add(1);
        }
        let traffic = Rc::clone(&connection.traffic);
        let (read, written) = (traffic.read.get(), traffic.written.get());
        let sent = connection.sender.send_request(message);
        let error = match within(waits.head, phase, sent).await? {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let head = Head(head);
                refuse_head(&head)?;
                return Ok(Answer { head, body, pooled });
            }
            Err(error) => error,
        };
        let is_unsent = traffic.written.get() == written;
        let may_repeat = is_unsent || (retry == Retry::IfSafe && request.method().is_safe());
        if is_kept && !is_retry && may_repeat && traffic.read.get() == read {
            is_retry = true;
            counters.retries.add(1);
            drop(pooled);
            // The others are as old, and the server may have been restarted.
            pool.forget_idle();
            continue;
        }
        return Err(classify(&error, connection, Phase::Waiting));
    }
}

async fn within<T>(
    limit: Option<Duration>,
    phase: &Cell<Phase>,
    future: impl Future<Output = T>,
) -> Result<T, OutboundFault> {
    let Some(after) = limit else {
        return Ok(future.await);
    };
    let result = timeout(after, future).await;
    result.map_err(|_| OutboundFault::Timeout {
        after,
        phase: phase.get(),
    })
}

/// Refuses answers that lead elsewhere, and heads that are longer than they may be.
fn refuse_head(head: &Head) -> Result<(), OutboundFault> {
    let status = head.status();
    // hyper stops reading at its limit, which may be some KiB behind it.
    let len: usize = head
        .headers()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if len > MAX_HEAD_LEN {
        return Err(OutboundFault::TooLarge {
            part: Part::Head,
            limit: MAX_HEAD_LEN,
        });
    }
    match (status, head.header("location")) {
        (301 | 302 | 303 | 307 | 308, Some(location)) => {
            // What comes after the path may be meant for nobody else.
            let end = location.iter().position(|byte| b"?#".contains(byte));
            let location = &location[..end.unwrap_or(location.len()).min(MAX_LOCATION_LEN)];
            Err(OutboundFault::Redirected {
                status,
                location: without_user_info(&location.escape_ascii().to_string()),
            })
        }
        (101, _) => Err(OutboundFault::InvalidResponse(
            "it changes the protocol, which was not asked for".to_owned(),
        )),
        _ => Ok(()),
    }
}

fn without_user_info(location: &str) -> String {
    let Some((scheme, rest)) = location.split_once("//") else {
        return location.to_owned();
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}//{host}{path}")
}

/// The next piece of a body; `None` at its end.
pub(super) async fn next_piece(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            Ok(frame) => {
                // Trailers are of no use to anybody here.
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    return Some(Ok(bytes));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

async fn read_body(
    mut body: Incoming,
    limit: usize,
    connection: &Connection,
) -> Result<Bytes, OutboundFault> {
    let too_large = || OutboundFault::TooLarge {
        part: Part::Body,
        limit,
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(piece) = next_piece(&mut body).await {
        let piece = piece.map_err(|error| classify(&error, connection, Phase::Reading))?;
        if whole.len() + joined.len() + piece.len() > limit {
            return Err(too_large());
        }
        // Most bodies come in one piece, and need not be copied.
        if whole.is_empty() && joined.is_empty() {
            whole = piece;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&piece);
        }
    }
    Ok(if joined.is_empty() {
        whole
    } else {
        joined.freeze()
    })
}

/// For how long the server keeps the connection, if it says so.
pub(super) fn keep_alive(head: &Head) -> Option<Duration> {
    let value = std::str::from_utf8(head.header("keep-alive")?).ok()?;
    let mut parameters = value.split(',').map(str::trim);
    let seconds = parameters.find_map(|parameter| parameter.strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// What an error of hyper's is to us.
pub(super) fn classify(
    error: &hyper::Error,
    connection: &Connection,
    phase: Phase,
) -> OutboundFault {
    let failure = connection.traffic.failure.borrow();
    // That the connection's task ended says less than why it did.
    let error = match failure.as_ref() {
        Some(failure) if error.is_canceled() => failure,
        _ => error,
    };
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut io = None;
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
                return OutboundFault::Tls(tls::explain(error));
            }
            io = Some(error);
        }
        cause = error.source();
    }
    // hyper tells it apart only to servers; a test would tell if the text changed.
    if error.is_parse() && error.to_string() == "message head is too large" {
        return OutboundFault::TooLarge {
            part: Part::Head,
            limit: MAX_HEAD_LEN,
        };
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return OutboundFault::Closed { phase };
    }
    match io {
        Some(error) if is_closed(error) => OutboundFault::Closed { phase },
        Some(error) => OutboundFault::InvalidResponse(error.to_string()),
        None => OutboundFault::InvalidResponse(error.to_string()),
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, name: &str, value: &str) -> Head {
        let response = hyper::Response::builder().status(status);
        let response = response.header(name, value).body(()).unwrap();
        Head(response.into_parts().0)
    }

    #[test]
    fn redirects_are_told_without_secrets() {
        for (location, shown) in [
            ("/login?token=secret", "/login"),
            ("https://u:secret@h/a#secret", "https://h/a"),
            ("https://u:secret@h", "https://h"),
            ("//h/a", "//h/a"),
        ] {
            let fault = refuse_head(&head(302, "location", location)).unwrap_err();
            let expected = OutboundFault::Redirected {
                status: 302,
                location: shown.to_owned(),
            };
            assert_eq!(fault, expected);
        }
        assert_eq!(refuse_head(&head(304, "location", "/")), Ok(()));
        assert_eq!(refuse_head(&head(302, "x", "y")), Ok(()));
    }

    #[test]
    fn what_the_server_says_of_its_patience_is_read() {
        let seconds =
            |value| keep_alive(&head(200, "keep-alive", value)).map(|time| time.as_secs());
        assert_eq!(seconds("timeout=5, max=100"), Some(5));
        assert_eq!(seconds("max=100,timeout=0"), Some(0));
        assert_eq!(seconds("timeout=x"), None);
        assert_eq!(seconds("300"), None);
    }
}
