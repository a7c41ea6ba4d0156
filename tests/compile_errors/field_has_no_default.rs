//~ says: the trait bound `IpAddr: Default` is not satisfied
//~ at: IpAddr

use std::net::IpAddr;

#[derive(ringspoa::Message)]
struct Visit {
    #[spop(default)]
    ip: IpAddr,
}

fn main() {}
