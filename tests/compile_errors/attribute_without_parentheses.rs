//~ says: parentheses
//~ at: =

#[derive(ringspoa::Message)]
#[spop = "visit"]
struct Visit;

fn main() {}
