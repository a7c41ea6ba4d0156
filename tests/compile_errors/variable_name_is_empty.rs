//~ says: a variable name is not empty

use ringspoa::Var;

pub const SCORE: Var<i64> = Var::txn("");

fn main() {}
