//! A custom agent: tells HAProxy which backend takes a request, by the beginning of its path.
//!
//! `cargo run --example route -- 127.0.0.1:9001`, and in HAProxy a message with an argument
//! `path=path` and `use_backend %[var(txn.my.backend)]`. SIGINT ends it.

use ringspoa::spop::{Messages, Scope, Variable};
use ringspoa::{Agent, AgentError, Reply, Server, ServerConfig};

/// A wrong name would not compile.
const BACKEND: Variable<'static> = Variable::literal(Scope::Transaction, "backend");

struct Route;

impl Agent for Route {
    fn handle_notify(
        &mut self,
        messages: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        while let Some(message) = messages.next_message()? {
            for argument in message {
                let argument = argument?;
                if let (b"path", Some(path)) = (argument.name, argument.value.as_bytes()) {
                    let is_api = path.starts_with(b"/api/");
                    reply.set_var(BACKEND, if is_api { "api" } else { "www" })?;
                }
            }
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen = vec![
        std::env::args()
            .nth(1)
            .as_deref()
            .unwrap_or("127.0.0.1:9001")
            .parse()?,
    ];
    let server = Server::start(
        ServerConfig {
            listen,
            ..Default::default()
        },
        |_core| Ok(Route),
    )?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
