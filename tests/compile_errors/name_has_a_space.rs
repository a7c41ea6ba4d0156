//~ error: the name of a message is one word, without spaces, quotes, '=', '#' and '\'
//~ at: "check visit"

#[derive(ringspoa::Message)]
#[spop(name = "check visit")]
struct Visit;

fn main() {}
