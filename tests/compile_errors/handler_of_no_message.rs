//~ says: `Visit` is no message
//~ says: add `#[derive(ringspoa::Message)]` to it

use ringspoa::Router;

struct Visit;

pub fn agent() {
    let _ = Router::new("paths", ()).on::<Visit>(|_: &mut (), _, _| Ok(()));
}

fn main() {}
