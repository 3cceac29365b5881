import torch

from ddim_lib.walks import Step, counting, evaluate, last_state


def test_the_time_is_handed_to_the_model_for_each_image_as_int64_where_the_images_are():
    def model(xt, t):
        assert (t.tolist(), t.dtype) == ([7, 7], torch.int64)
        return xt

    x = torch.ones(2, 3)
    with torch.device("meta"):  # where torch puts what is not told where to be
        assert evaluate(model, x, 7) is x


def test_finite_estimates_whose_sum_overflows_are_taken():
    huge = torch.full((2, 3), 3e38)
    assert evaluate(lambda xt, t: huge, torch.ones(2, 3), 7) is huge


def test_counting_hands_the_estimate_on_and_tells_the_number_of_images_after_each_evaluation():
    told = []
    model = counting(lambda xt, t: 2 * xt + t, told.append)
    assert model(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10, 20, 30])).tolist() == [12.0, 24.0, 36.0]
    model(torch.ones(5), torch.ones(5))
    assert told == [3, 5]


def test_the_last_state_is_that_of_the_last_step_and_no_other_is_kept():
    class State(torch.Tensor):
        alive = 0

        def __init__(self, *_):
            State.alive += 1

        def __del__(self):
            State.alive -= 1

    def walk():
        for t in (2, 1, 0):
            yield Step(t, State([float(t)]), torch.zeros(1), torch.zeros(1))
            assert State.alive <= 2  # the one that was yielded last, and the one before

    assert last_state(walk()).item() == 0.0
