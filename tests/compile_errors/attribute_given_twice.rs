//~ error: `name` is given already
//~ at: name

#[derive(ringspoa::Message)]
#[spop(name = "visit")]
#[spop(name = "check")]
struct Visit;

fn main() {}
