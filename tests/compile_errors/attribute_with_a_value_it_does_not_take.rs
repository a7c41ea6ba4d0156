//~ error: `default` stands alone: it takes no value
//~ at: default

#[derive(ringspoa::Message)]
struct Visit {
    #[spop(default = 80)]
    port: u16,
}

fn main() {}
