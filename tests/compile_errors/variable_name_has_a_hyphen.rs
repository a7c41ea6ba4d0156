//~ says: a variable name has only letters, digits, '_' and '.'

use ringspoa::Var;

pub const SCORE: Var<i64> = Var::txn("ip-score");

fn main() {}
