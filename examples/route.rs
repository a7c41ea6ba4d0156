//! Tells HAProxy which backend takes a request: `cargo run --example route -- 127.0.0.1:9001`, and
//! `use_backend %[var(txn.router.backend)]` in HAProxy. With `--config` it prints what HAProxy needs.
use ringspoa::{Agent, Message, Router, Server, ServerConfig, SpoeConfig, Var};

#[derive(Message)]
#[spop(name = "route", event = "on-frontend-http-request")]
struct Route<'a> {
    #[spop(sample = "path")]
    path: &'a [u8],
}

/// A wrong name would not compile.
const BACKEND: Var<str> = Var::txn("backend");

fn agent() -> impl Agent {
    let router = Router::new("router", ()).on::<Route<'_>>(|(), route, reply| {
        let is_api = route.path.starts_with(b"/api/");
        Ok(reply.set(BACKEND, if is_api { "api" } else { "www" })?)
    });
    router.sets(BACKEND)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .ok_or("usage: route ADDRESS|--config")?;
    if address == "--config" {
        print!("{}", SpoeConfig::new(&agent().declaration()).text()?);
        return Ok(());
    }
    let config = ServerConfig::listening_on(address.parse()?);
    let server = Server::start(config, |_core| Ok(agent()))?;
    println!("listening on {}", server.addresses()[0]);
    server.join()?;
    Ok(())
}
