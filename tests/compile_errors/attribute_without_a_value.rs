//~ error: `name` takes text: name = "..."
//~ at: name

#[derive(ringspoa::Message)]
#[spop(name)]
struct Visit;

fn main() {}
