//~ error: the lifetime takes no bounds: it is that of the frame a message is read from
//~ at: 'a: 'static

#[derive(ringspoa::Message)]
struct Visit<'a: 'static> {
    path: &'a str,
}

fn main() {}
