//~ error: `fetch` is not known here: an argument has name, alias, sample and default
//~ at: fetch

#[derive(ringspoa::Message)]
struct Visit {
    #[spop(fetch = "dst_port")]
    port: u16,
}

fn main() {}
