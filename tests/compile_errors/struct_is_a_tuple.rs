//~ error: a message is a struct with named fields: their names are those of its arguments
//~ at: (&'a str, u16)

#[derive(ringspoa::Message)]
struct Visit<'a>(&'a str, u16);

fn main() {}
