//~ says: `Visit` cannot be sent as a NOTIFY

use ringspoa::{Harness, Message, Router};

#[derive(Message)]
struct Visit;

pub fn test() {
    let mut harness = Harness::new(Router::new("paths", ()));
    let _ = harness.notify(Visit);
}

fn main() {}
