//~ error: `name` takes text: name = "..."
//~ at: 7

#[derive(ringspoa::Message)]
#[spop(name = 7)]
struct Visit;

fn main() {}
