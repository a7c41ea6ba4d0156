//~ error: a sample is what HAProxy fetches, as in "src" or "req.hdr(user-agent)"
//~ at: " "

#[derive(ringspoa::Message)]
struct Visit {
    #[spop(sample = " ")]
    port: u16,
}

fn main() {}
