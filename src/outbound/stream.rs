//! Long answers, read piece by piece by a thread that may wait.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, Read};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Buf, Bytes};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use super::config::StreamTimeouts;
use super::error::{OutboundError, OutboundFault, Phase};
use super::exchange::{Answer, Retry, Waits, begin, classify, keep_alive, next_piece};
use super::pool::Pool;
use super::request::{Head, Request};
use super::shared::{Admitted, Shared};

/// Pieces that may lie between the two threads. hyper reads another one meanwhile and the reader has
/// one in hand; none is larger than hyper's buffer of 64 KiB.
const PIECES: usize = 2;

enum Piece {
    Head(Box<Head>),
    Data(Bytes),
    /// The answer was whole.
    End,
    Failed(OutboundFault),
}

/// A stream on its way.
pub(super) struct Stream {
    request: Request,
    timeouts: StreamTimeouts,
    pieces: Sender<Piece>,
    end: Ended,
}

/// The other end of it.
pub(super) struct Unopened {
    pieces: Receiver<Piece>,
    shared: Arc<Shared>,
}

impl Stream {
    pub(super) fn new(
        request: Request,
        timeouts: StreamTimeouts,
        admitted: Admitted,
    ) -> (Self, Unopened) {
        let (sender, receiver) = channel(PIECES);
        let shared = Arc::clone(admitted.shared());
        let stream = Self {
            request,
            timeouts,
            pieces: sender,
            end: Ended {
                admitted,
                is_counted: false,
            },
        };
        let unopened = Unopened {
            pieces: receiver,
            shared,
        };
        (stream, unopened)
    }

    pub(super) async fn run(mut self, pool: Rc<Pool>) {
        let phase = Cell::new(Phase::Connecting);
        let waits = Waits {
            connection: Some(self.timeouts.connect),
            head: Some(self.timeouts.first_byte),
        };
        // A stream may have a meaning for the server that a second one does not have.
        match begin(&pool, &self.request, &waits, Retry::IfUnsent, &phase).await {
            Ok(answer) => {
                let status = answer.head.status();
                self.end.admitted.judge(Some(Ok(status)));
                self.pass_on(answer, &pool).await;
            }
            Err(fault) => {
                self.end.admitted.judge(Some(Err(&fault)));
                self.fail(fault).await;
            }
        }
        pool.refill();
    }

    async fn pass_on(&mut self, answer: Answer, pool: &Rc<Pool>) {
        let Answer {
            head,
            mut body,
            pooled,
        } = answer;
        let kept_for = keep_alive(&head);
        let mut is_read = self.pieces.send(Piece::Head(Box::new(head))).await.is_ok();
        while is_read {
            let after = self.timeouts.idle_read;
            let piece = timeout(after, next_piece(&mut body));
            let Some(piece) = unless_closed(&self.pieces, piece).await else {
                break;
            };
            let fault = match piece {
                Ok(Some(Ok(bytes))) => {
                    is_read = self.pieces.send(Piece::Data(bytes)).await.is_ok();
                    continue;
                }
                Ok(None) => {
                    self.end.count(Ok(()));
                    let _ = self.pieces.send(Piece::End).await;
                    pool.give_back(pooled, kept_for).await;
                    return;
                }
                Ok(Some(Err(error))) => classify(&error, &pooled.connection, Phase::Reading),
                Err(_) => OutboundFault::Timeout {
                    after,
                    phase: Phase::Reading,
                },
            };
            self.fail(fault).await;
            return;
        }
        // The reader has what it wanted.
        self.end.count(Ok(()));
    }

    async fn fail(&mut self, fault: OutboundFault) {
        self.end.count(Err(&fault));
        let _ = self.pieces.send(Piece::Failed(fault)).await;
    }
}

/// What the future has, unless nobody reads any more before that.
async fn unless_closed<T>(pieces: &Sender<Piece>, future: impl Future<Output = T>) -> Option<T> {
    let mut closed = pin!(pieces.closed());
    let mut future = pin!(future);
    poll_fn(|context| {
        if closed.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// That a stream is counted once, as stopped if nothing else became of it.
struct Ended {
    admitted: Admitted,
    is_counted: bool,
}

impl Ended {
    fn count(&mut self, outcome: Result<(), &OutboundFault>) {
        if std::mem::replace(&mut self.is_counted, true) {
            return;
        }
        let counters = &self.admitted.shared().counters;
        match outcome {
            Ok(()) => counters.answered.add(1),
            Err(fault) => counters.failed(fault.kind()),
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.admitted.judge(None);
        self.count(Err(&OutboundFault::Stopped));
    }
}

impl Unopened {
    /// Waits for the head of the answer.
    pub(super) fn open(mut self) -> Result<StreamReader, OutboundError> {
        match self.pieces.blocking_recv() {
            Some(Piece::Head(head)) => Ok(StreamReader {
                head: *head,
                current: Bytes::new(),
                pieces: self.pieces,
                end: None,
                shared: self.shared,
            }),
            Some(Piece::Failed(fault)) => Err(self.shared.error(fault)),
            Some(Piece::Data(_) | Piece::End) | None => {
                Err(self.shared.error(OutboundFault::Stopped))
            }
        }
    }
}

/// An answer that is read as it comes, by a thread that may wait: [`Read`] waits for the next piece.
///
/// Memory is bounded whatever the length: some pieces of up to 64 KiB. A reader that does not read
/// makes the server wait. Dropped, the connection is closed.
///
/// An answer that ends early is an error, never an end; it can be told by
/// [`get_ref`](std::io::Error::get_ref) as an [`OutboundError`].
pub struct StreamReader {
    head: Head,
    current: Bytes,
    pieces: Receiver<Piece>,
    end: Option<Result<(), OutboundError>>,
    shared: Arc<Shared>,
}

impl StreamReader {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// The first value of a header, by its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.head.header(name)
    }

    /// Its headers, with names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.headers()
    }
}

impl Read for StreamReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.current.is_empty() {
            if let Some(end) = &self.end {
                return match end {
                    Ok(()) => Ok(0),
                    Err(error) => Err(io_error(error.clone())),
                };
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Data(bytes)) => self.current = bytes,
                Some(Piece::End) => self.end = Some(Ok(())),
                Some(Piece::Failed(fault)) => self.end = Some(Err(self.shared.error(fault))),
                Some(Piece::Head(_)) | None => {
                    self.end = Some(Err(self.shared.error(OutboundFault::Stopped)));
                }
            }
        }
        let len = out.len().min(self.current.len());
        out[..len].copy_from_slice(&self.current[..len]);
        self.current.advance(len);
        Ok(len)
    }
}

fn io_error(error: OutboundError) -> io::Error {
    let kind = match error.fault() {
        OutboundFault::Timeout { .. } => io::ErrorKind::TimedOut,
        OutboundFault::Closed { .. } => io::ErrorKind::UnexpectedEof,
        OutboundFault::InvalidResponse(_) => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader")
            .field("endpoint", &self.shared.title())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
