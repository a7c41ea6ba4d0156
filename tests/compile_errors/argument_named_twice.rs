//~ error: argument path is that of field `path` already: a name or an alias leads to one field
//~ at: query

#[derive(ringspoa::Message)]
struct Visit<'a> {
    path: &'a str,
    #[spop(name = "path")]
    query: &'a str,
}

fn main() {}
