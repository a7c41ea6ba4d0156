//~ error: HAProxy has no such event; it has on-client-session, on-server-session, on-frontend-tcp-request, on-backend-tcp-request, on-tcp-response, on-frontend-http-request, on-backend-http-request, on-http-response
//~ at: "on-http-request"

#[derive(ringspoa::Message)]
#[spop(event = "on-http-request")]
struct Visit;

fn main() {}
