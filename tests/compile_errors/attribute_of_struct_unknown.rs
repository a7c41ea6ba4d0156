//~ error: `rename` is not known here: a message has name, alias, event, condition, deny_unknown_arguments and crate
//~ at: rename

#[derive(ringspoa::Message)]
#[spop(rename = "visit")]
struct Visit;

fn main() {}
