from switchgear.events.pace import BUDGET, Pace


def test_a_handler_that_is_not_known_yet_gets_its_own():
    assert Pace().limit() == 1


def test_quick_handlers_share_a_transaction_up_to_the_bound():
    pace = Pace(most=256)
    for _ in range(1000):
        pace.took(0.00005)
    assert pace.limit() == 256


def test_slow_handlers_get_their_own():
    pace = Pace()
    for _ in range(20):
        pace.took(0.1)
    assert pace.limit() == 1


def test_what_shares_a_transaction_fits_its_budget():
    pace = Pace()
    for _ in range(1000):
        pace.took(0.001)
    assert pace.limit() * 0.001 <= BUDGET


def test_a_database_that_does_not_share_gets_one_at_a_time():
    pace = Pace(most=1)
    for _ in range(1000):
        pace.took(0.00001)
    assert pace.limit() == 1


def test_what_several_took_together_counts_as_each_of_them():
    one, together = Pace(), Pace()
    for _ in range(40):
        one.took(0.001)
    together.took(0.03, 30)
    together.took(0.01, 10)
    together.took(9.0, 0)
    assert together.limit() == one.limit() > 1
