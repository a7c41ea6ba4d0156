//~ error: a message borrows from one frame: give it one lifetime
//~ at: 'b

#[derive(ringspoa::Message)]
struct Visit<'a, 'b> {
    path: &'a str,
    query: &'b str,
}

fn main() {}
