//~ says: String` cannot be read from an argument
//~ at: Option<String>
//~ says: a field of a message is a number, a `bool`, an address, text as `&'a str` (not `String`:
//~ says: `TypedData<'a>` for any value

#[derive(ringspoa::Message)]
struct Visit {
    path: Option<String>,
}

fn main() {}
