//~ says: type mismatch in function arguments
//~ says: fn(&mut (), Response, &mut Reply<'_>)

use ringspoa::{AgentError, Message, Reply, Router};

#[derive(Message)]
struct Visit;

#[derive(Message)]
struct Response;

fn count(_: &mut (), _: Response, _: &mut Reply<'_>) -> Result<(), AgentError> {
    Ok(())
}

pub fn agent() {
    let _ = Router::new("paths", ()).on::<Visit>(count);
}

fn main() {}
