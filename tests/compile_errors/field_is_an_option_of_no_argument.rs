//~ says: String` cannot be read from an argument
//~ at: Option<String>
//~ says: a field of a message is a number, a `bool`, an address, text as `&str`, bytes as `&[u8]`

#[derive(ringspoa::Message)]
struct Visit {
    path: Option<String>,
}

fn main() {}
