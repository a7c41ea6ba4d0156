//~ says: String` cannot be read from an argument
//~ at: String
//~ says: a field of a message is a number, a `bool`, an address, text as `&str`, bytes as `&[u8]`
//~ says: implement `ArgumentValue` for a type of your own

#[derive(ringspoa::Message)]
struct Visit {
    path: String,
}

fn main() {}
