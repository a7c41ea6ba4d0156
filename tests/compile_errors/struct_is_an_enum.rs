//~ error: a message is a struct; for several messages, give a Router several structs
//~ at: Verdict

#[derive(ringspoa::Message)]
enum Verdict {
    Banned,
}

fn main() {}
