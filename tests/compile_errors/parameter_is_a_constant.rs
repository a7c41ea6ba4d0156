//~ error: a message has no parameter but one lifetime: its arguments are of one type each
//~ at: const LEN: usize

#[derive(ringspoa::Message)]
struct Visit<const LEN: usize> {
    port: u16,
}

fn main() {}
