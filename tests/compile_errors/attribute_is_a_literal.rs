//~ error: "visit" stands alone: say what it is, as in name = "visit"
//~ at: "visit"

#[derive(ringspoa::Message)]
#[spop(event = "on-http-response", "visit")]
struct Visit;

fn main() {}
