use std::net::IpAddr;

use ringspoa::{AgentError, Harness, Headers, Message, Reply, Router, Var};

const SCORE: Var<i64> = Var::txn("score");

#[derive(Message)]
#[spop(event = "on-frontend-http-request", condition = "unless { path_beg /static }")]
struct Visit<'a> {
    #[spop(sample = "src", alias = "src")]
    ip: Option<IpAddr>,
    headers: Headers<'a>,
    #[spop(default)]
    port: u16,
}

fn visit(_: &mut (), visit: Visit<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
    let known = visit.ip.is_some() && visit.port > 0 && !visit.headers.is_empty();
    Ok(reply.set(SCORE, i64::from(known))?)
}

pub fn agent() {
    let _ = Harness::new(Router::new("paths", ()).on::<Visit>(visit).sets(SCORE));
}

fn main() {}
