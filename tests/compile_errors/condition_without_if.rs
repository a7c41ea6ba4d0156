//~ error: a condition begins with `if` or `unless`, as in "if { path_beg /api }"
//~ at: "{ path_beg /api }"

#[derive(ringspoa::Message)]
#[spop(condition = "{ path_beg /api }")]
struct Visit;

fn main() {}
