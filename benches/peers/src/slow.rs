//! The ringspoa server with an agent whose answers take long: each NOTIFY is deferred with a ticket,
//! and one thread sends the tickets when they are due.

use std::error::Error;
use std::num::NonZeroU64;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ringspoa::spop::{Messages, Scope, Variable};
use ringspoa::{Agent, AgentError, Cores, ListenAddress, Reply, Server, ServerConfig, Ticket};

const REMEDIATION: Variable<'static> = Variable::literal(Scope::Transaction, "remediation");

/// A ticket and when it is to be sent.
struct Due(Instant, Ticket);

struct Slow {
    delay: Duration,
    due: Sender<Due>,
}

impl Agent for Slow {
    fn handle_notify(
        &mut self,
        _messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        let mut ticket = reply.defer();
        ticket.set_var(REMEDIATION, "allow")?;
        self.due.send(Due(Instant::now() + self.delay, ticket))?;
        Ok(())
    }
}

/// Sends tickets when they are due. All of them wait equally long, so they come in that order, but
/// for what the cores are apart: no heap is needed.
fn send_when_due(queue: &Receiver<Due>) {
    // Otherwise the kernel wakes a sleeping thread up to 50 us late. It is a refinement, so a
    // system that refuses it is served all the same.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    while let Ok(Due(at, ticket)) = queue.recv() {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        ticket.send();
    }
}

pub(crate) fn serve(
    address: ListenAddress,
    cores: Cores,
    delay: Duration,
) -> Result<(), Box<dyn Error>> {
    let (due, queue) = channel();
    std::thread::Builder::new()
        .name("slow-answers".to_owned())
        .spawn(move || send_when_due(&queue))?;
    let config = ServerConfig {
        cores,
        // An answer may be late, but no later than a delay more and a second.
        agent_deadline: 2 * delay + Duration::from_secs(1),
        ..ServerConfig::listening_on(address)
    };
    let server = Server::start(config, move |_core| {
        let due = due.clone();
        Ok(Slow { delay, due })
    })?;
    server.join()?;
    Ok(())
}
