//~ error: argument port is that of field `path` already: a name or an alias leads to one field
//~ at: port

#[derive(ringspoa::Message)]
struct Visit<'a> {
    #[spop(alias = "port")]
    path: &'a str,
    port: u16,
}

fn main() {}
