//~ error: a condition is on one line of a configuration: it has no line breaks or other control characters
//~ at: "if { path_beg /api }\n  event on-http-response"

#[derive(ringspoa::Message)]
#[spop(condition = "if { path_beg /api }\n  event on-http-response")]
struct Visit;

fn main() {}
