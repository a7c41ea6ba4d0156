//~ error: a message has no parameter but one lifetime: its arguments are of one type each
//~ at: T

#[derive(ringspoa::Message)]
struct Visit<T> {
    path: T,
}

fn main() {}
