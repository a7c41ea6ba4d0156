//! A typed message, a slow lookup, two variables, and tests: `cargo test --example reputation`.
use std::{net::IpAddr, thread, time::Duration};

use ringspoa::{Agent, AgentError, Message, Reply, Router, Server, ServerConfig, SpoeConfig, Var};

#[derive(Message)]
#[spop(name = "check-client", event = "on-frontend-http-request")]
struct CheckClient<'a> {
    #[spop(sample = "src")]
    ip: IpAddr,
    #[spop(name = "ua", sample = "req.hdr(user-agent)")]
    user_agent: Option<&'a [u8]>,
}

const SCORE: Var<i64> = Var::txn("score");
const VERDICT: Var<str> = Var::txn("verdict");

fn check(_: &mut (), client: CheckClient<'_>, reply: &mut Reply<'_>) -> Result<(), AgentError> {
    if client.user_agent.is_none() {
        return Ok(reply.set(VERDICT, "deny")?);
    }
    let (ip, mut ticket) = (client.ip, reply.defer());
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(20)); // A database, a service: what takes its time.
        let _ = ticket.set(SCORE, if ip.is_loopback() { 1 } else { 50 });
        ticket.send();
    });
    Ok(reply.set(VERDICT, "allow")?)
}

fn agent() -> impl Agent {
    let router = Router::new("reputation", ()).on::<CheckClient<'_>>(check);
    router.sets(SCORE).sets(VERDICT)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{}", SpoeConfig::new(&agent().declaration()).text()?); // What HAProxy needs for it.
    Server::start(ServerConfig::default(), |_core| Ok(agent()))?.join()?;
    Ok(())
}

#[test]
fn without_a_user_agent_it_is_denied() {
    let mut harness = ringspoa::Harness::new(agent());
    let (ip, user_agent) = ([192, 0, 2, 1].into(), None);
    let ack = harness.notify(&CheckClient { ip, user_agent }).ack();
    assert_eq!((ack.get(VERDICT), ack.get(SCORE)), (Some("deny"), None));
}

#[test]
fn haproxy_gets_both_variables() -> Result<(), Box<dyn std::error::Error>> {
    let config = ServerConfig::listening_on("127.0.0.1:0".parse()?);
    let server = Server::start(config, |_core| Ok(agent()))?;
    let haproxy = ringspoa::TestHaproxy::start(&agent().declaration(), &server.addresses()[0])?;
    let answer = haproxy.get("/", &[("user-agent", "curl")])?;
    assert_eq!(answer.get(VERDICT), Some("allow"));
    assert_eq!(answer.get(SCORE), Some(1));
    Ok(())
}
