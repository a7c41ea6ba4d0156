//~ says: no variable of HAProxy holds
//~ says: text as `str`

use ringspoa::Var;

pub const VERDICT: Var<String> = Var::txn("verdict");

fn main() {}
