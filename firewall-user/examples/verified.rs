use firewall_user::datapath::TestRun;
use firewall_user::policy::{Environment, Policy};
fn main() {
    for path in std::env::args().skip(1) {
        let (policy, _) = Policy::load(path.as_ref()).unwrap();
        let compiled = policy.compile(&Environment::default()).unwrap();
        let started = std::time::Instant::now();
        let mut run = TestRun::new(compiled).unwrap();
        println!(
            "{path}: {:?} {:?}",
            run.verified_instructions(),
            started.elapsed()
        );
    }
}
