//! `set_trap_table`.

use super::*;
use crate::domain::vcpu::Gate;

#[test]
fn tables_of_any_length() {
    let machine = machine();
    let world = &mut World::new(&machine);
    for n in 0..300_u64 {
        // vector n % 256, flags 7: DPL 3, masks events
        world.fake.put_words(BASE + 16 * n, &[(n % 256) | 7 << 8, 0x5000 + n]);
    }
    assert_eq!(world.result(number::SET_TRAP_TABLE, &[BASE]), 0);
    assert_eq!(world.vcpu().gates[255], Gate { address: 0x5000 + 255, dpl: 3, masks_events: true });
    assert_eq!(world.vcpu().gates[0].address, 0x5000 + 256, "a later entry wins");
    world.fake.put_words(BASE, &[3, 1 << 47]);
    assert_eq!(world.result(number::SET_TRAP_TABLE, &[BASE]), EINVAL);
    assert_eq!(world.result(number::SET_TRAP_TABLE, &[0]), 0);
    assert!(world.vcpu().gates.iter().all(|gate| *gate == Gate::default()));
    for at in (BASE..BASE + 0x1_0000).step_by(16) {
        world.fake.put_words(at, &[3, 0x5000]);
    }
    assert_eq!(world.result(number::SET_TRAP_TABLE, &[BASE]), EFAULT, "a table without an end");
}
