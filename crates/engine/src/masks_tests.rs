//! The pool at work, with constraints that take, refuse and fail.

use std::{collections::HashMap, time::Duration};

use millrace_types::{Constraint, ConstraintError};

use super::*;

/// Allows one token after the other. Some tokens make it fail, some when they come and some at the mask behind them.
#[derive(Debug)]
struct Chain(TokenId);

impl Constraint for Chain {
    fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        assert_ne!(token, 13);
        self.0 = token + 1;
        if token == 12 { Err(ConstraintError("twelve".into())) } else { Ok(()) }
    }
    fn fast_forward(&mut self, most: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
        out.extend((0..most as u32).map(|i| self.0 + i));
        self.0 += most as u32;
        Ok(())
    }
    fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
        assert_ne!(self.0, 15 + 3);
        mask.fill(0);
        mask[self.0 as usize / 32] = 1 << (self.0 % 32);
        if self.0 == 14 + 3 { Err(ConstraintError("fourteen".into())) } else { Ok(()) }
    }
    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Self(self.0))
    }
}

fn job(token: TokenId, after: bool) -> Job {
    let constrained = Box::new(Constrained::new(Box::new(Chain(token)), 64));
    let after = after.then_some(After { token, most_forced: 2, may_try: false, ends: false });
    Job { id: RequestId(u64::from(token)), constrained, after }
}

/// What is told of each job: the tokens that follow or an error, and then the mask or an error.
#[derive(Default)]
struct Told {
    forced: Option<Result<Vec<TokenId>, String>>,
    masked: Option<Result<Box<Constrained>, String>>,
}

fn tell(news: Vec<News>, told: &mut HashMap<u64, Told>) {
    for News { id, what } in news {
        let told = told.entry(id.0).or_default();
        match what {
            What::Advanced(forced, None) => {
                assert!(told.masked.is_none() && told.forced.replace(Ok(forced)).is_none());
            }
            What::Failed(error) => {
                assert!(told.masked.is_none() && told.forced.replace(Err(error)).is_none());
            }
            What::Masked(back) => assert!(told.masked.replace(Ok(back)).is_none()),
            What::MaskFailed(error) => assert!(told.masked.replace(Err(error)).is_none()),
            What::Advanced(_, Some(_)) | What::Refused(_) => panic!("nothing was tried"),
        }
    }
}

fn allowed(constrained: &Constrained) -> TokenId {
    assert!(constrained.is_ready());
    (0..64).find(|token| constrained.mask()[*token as usize / 32] >> (token % 32) & 1 == 1).unwrap()
}

#[test]
fn every_job_comes_back_and_failures_stay_alone() {
    let mut pool = MaskPool::new();
    for count in [1, 4, 5, 40] {
        let (mut told, mut news) = (HashMap::new(), Vec::new());
        let mut jobs: Vec<Job> = (0..count).map(|token| job(token, true)).collect();
        pool.start(&mut jobs);
        pool.advance(&mut news);
        tell(std::mem::take(&mut news), &mut told);
        assert!(jobs.is_empty() && told.len() == count as usize);
        assert!(told.values().all(|told| told.forced.is_some()));
        // Others join those that are on their way.
        jobs.push(job(50, false));
        pool.start(&mut jobs);
        pool.finish(&mut news);
        tell(news, &mut told);
        let first = told.remove(&50).unwrap();
        assert!(first.forced.is_none() && allowed(&first.masked.unwrap().unwrap()) == 50);
        for (token, told) in told {
            let forced = told.forced.unwrap();
            match (token as TokenId, told.masked) {
                (12, masked) => assert!(forced.unwrap_err() == "twelve" && masked.is_none()),
                (13, masked) => assert!(forced.unwrap_err().contains("fault") && masked.is_none()),
                (14, masked) => assert_eq!(masked.unwrap().unwrap_err(), "fourteen"),
                (15, masked) => assert!(masked.unwrap().unwrap_err().contains("fault")),
                (token, masked) => {
                    assert_eq!(forced.unwrap(), [token + 1, token + 2]);
                    let mut constrained = masked.unwrap().unwrap();
                    assert_eq!(allowed(&constrained), token + 3);
                    assert!(constrained.take_time() > Duration::ZERO);
                    assert_eq!(constrained.take_time(), Duration::ZERO);
                }
            }
        }
    }
}

/// Allows the even tokens; what it can't tell without a mask are those above 40.
#[derive(Debug, Clone)]
struct Even(Vec<TokenId>);

impl Constraint for Even {
    fn commit(&mut self, token: TokenId) -> Result<(), ConstraintError> {
        assert!(token.is_multiple_of(2));
        self.0.push(token);
        Ok(())
    }
    fn admit(&mut self, token: TokenId) -> Result<Option<bool>, ConstraintError> {
        match token {
            40.. => Ok(None),
            token if token.is_multiple_of(2) => self.commit(token).map(|()| Some(true)),
            _ => Ok(Some(false)),
        }
    }
    fn fast_forward(&mut self, _: usize, out: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
        out.extend(self.0.last());
        Ok(())
    }
    fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
        mask.fill(0x5555_5555);
        Ok(())
    }
    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

#[test]
fn tried_tokens_are_taken_or_refused_with_a_mask() {
    let mut pool = MaskPool::new();
    for (token, ends, taken) in [
        (2, false, true),
        (3, false, false),
        (44, false, true),
        (45, false, false),
        (8, true, true),
        (9, true, false),
    ] {
        let mut constrained = Box::new(Constrained::new(Box::new(Even(Vec::new())), 64));
        constrained.choose(true);
        assert!(constrained.is_tried());
        let most_forced = usize::from(!ends);
        let after = Some(After { token, most_forced, may_try: true, ends });
        let mut news = Vec::new();
        pool.start(&mut vec![Job { id: RequestId(1), constrained, after }]);
        pool.advance(&mut news);
        match news.pop().unwrap().what {
            What::Advanced(forced, Some(back)) => {
                assert!(taken && back.is_tried());
                assert_eq!(forced.len(), most_forced);
            }
            What::Refused(back) => {
                assert!(!taken && back.is_ready() && !back.is_tried());
                assert_eq!(back.mask(), [0x5555_5555; 2]);
            }
            other => panic!("{other:?}"),
        }
        pool.finish(&mut news);
        assert!(news.is_empty());
    }
}

/// Must end with token 5, and knows no token any more.
#[derive(Debug)]
struct Over;

impl Constraint for Over {
    fn commit(&mut self, _: TokenId) -> Result<(), ConstraintError> {
        Err(ConstraintError("It is over.".into()))
    }
    fn fast_forward(&mut self, _: usize, _: &mut Vec<TokenId>) -> Result<(), ConstraintError> {
        Ok(())
    }
    fn mask(&mut self, mask: &mut [u32]) -> Result<(), ConstraintError> {
        mask.fill(0);
        mask[0] = 1 << 5;
        Ok(())
    }
    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(Self)
    }
}

#[test]
fn an_end_is_not_committed() {
    let mut pool = MaskPool::new();
    for (token, allowed) in [(5, true), (6, false)] {
        let mut constrained = Box::new(Constrained::new(Box::new(Over), 64));
        constrained.choose(true);
        let after = Some(After { token, most_forced: 0, may_try: true, ends: true });
        let mut news = Vec::new();
        pool.start(&mut vec![Job { id: RequestId(1), constrained, after }]);
        pool.advance(&mut news);
        let what = news.pop().unwrap().what;
        assert_eq!(matches!(what, What::Advanced(_, Some(_))), allowed, "{what:?}");
        assert_eq!(matches!(what, What::Refused(_)), !allowed);
    }
}

#[test]
fn nothing_to_do_is_done_at_once() {
    let (mut pool, mut news) = (MaskPool::new(), Vec::new());
    pool.start(&mut Vec::new());
    pool.advance(&mut news);
    pool.finish(&mut news);
    assert!(news.is_empty());
}
