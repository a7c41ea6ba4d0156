//! Tells HAProxy which backend takes a request: `cargo run --example route -- 127.0.0.1:9001`, a
//! message with the argument `path=path`, and `use_backend %[var(txn.my.backend)]`.
use ringspoa::spop::{Messages, Scope, Variable};
use ringspoa::{Agent, AgentError, Reply, Server, ServerConfig};

/// A wrong name would not compile.
const BACKEND: Variable<'static> = Variable::literal(Scope::Transaction, "backend");

struct Route;

impl Agent for Route {
    fn handle_notify(
        &mut self,
        all: &mut Messages<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<(), AgentError> {
        while let Some(message) = all.next_message()? {
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
    let address = std::env::args().nth(1).ok_or("usage: route ADDRESS")?;
    let config = ServerConfig::listening_on(address.parse()?);
    let server = Server::start(config, |_core| Ok(Route))?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
