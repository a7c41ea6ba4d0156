//~ error: the name of a message must not be empty
//~ at: ""

#[derive(ringspoa::Message)]
#[spop(name = "")]
struct Visit;

fn main() {}
