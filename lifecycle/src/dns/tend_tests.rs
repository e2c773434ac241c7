use super::*;

#[test]
fn times_come_also_when_the_clock_is_set_back() {
    assert!(is_due(5, 5) && is_due(0, 5) && !is_due(6, 5));
    assert!(is_due(in_millis(REFRESH) + 7, 5));
}
