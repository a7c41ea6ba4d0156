//~ error: the name of an argument is one word, without spaces, quotes, '=', '#' and '\'
//~ at: "port=dst_port"

#[derive(ringspoa::Message)]
struct Visit {
    #[spop(name = "port=dst_port")]
    port: u16,
}

fn main() {}
