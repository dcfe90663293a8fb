use proptest::prelude::*;

use super::twin::TwinPool;
use crate::{BlockHash, BlockPool, KvError, NULL_BLOCK};

const CONTENTS: u8 = 6;

#[derive(Debug, Clone)]
enum Op {
    Take,
    Seal(usize, u8),
    Share(u8),
    FreeOwned(usize),
    FreeShared(usize),
    Reset,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Take),
        4 => (any::<usize>(), 0..CONTENTS).prop_map(|(i, content)| Op::Seal(i, content)),
        4 => (0..CONTENTS).prop_map(Op::Share),
        3 => any::<usize>().prop_map(Op::FreeOwned),
        5 => any::<usize>().prop_map(Op::FreeShared),
        1 => Just(Op::Reset),
    ]
}

fn hash(content: u8) -> BlockHash {
    BlockHash([content; 32])
}

/// Removes one element, whichever `i` points at.
fn pick<T>(list: &mut Vec<T>, i: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.swap_remove(i % list.len()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn pool_equals_its_twin(num_blocks in 2_u32..12, ops in prop::collection::vec(op(), 0..120)) {
        let mut pool = BlockPool::new(num_blocks as usize).unwrap();
        let mut twin = TwinPool::new(num_blocks);
        let (mut owned, mut shared) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Take => {
                    let block = pool.take();
                    prop_assert_eq!(block.as_ref().map(|b| b.id().0), twin.take());
                    owned.extend(block);
                }
                Op::Seal(i, content) => if let Some(block) = pick(&mut owned, i) {
                    twin.seal(block.id().0, content);
                    shared.push(pool.seal(block, hash(content)));
                },
                Op::Share(content) => {
                    let block = pool.share(&hash(content));
                    prop_assert_eq!(block.as_ref().map(|b| b.id().0), twin.share(&content));
                    shared.extend(block);
                }
                Op::FreeOwned(i) => if let Some(block) = pick(&mut owned, i) {
                    twin.free(block.id().0);
                    pool.free_owned(block);
                },
                Op::FreeShared(i) => if let Some(block) = pick(&mut shared, i) {
                    twin.free(block.id().0);
                    pool.free_shared(block);
                },
                Op::Reset => prop_assert_eq!(pool.reset_cache(), twin.reset()),
            }
            prop_assert_eq!(pool.free_queue(), twin.queue.clone());
            prop_assert_eq!(pool.num_free(), twin.queue.len());
            prop_assert_eq!(pool.num_cached(), twin.num_cached());
            for content in 0..CONTENTS {
                prop_assert_eq!(pool.find(&hash(content)).map(|b| b.0), twin.find(&content));
            }
        }
    }
}

#[test]
fn the_null_block_is_never_handed_out() {
    let mut pool = BlockPool::new(4).unwrap();
    let blocks: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
    assert_eq!(blocks.len(), 3);
    assert!(blocks.iter().all(|block| block.id() != NULL_BLOCK));
    assert!(!pool.is_free(NULL_BLOCK));
}

#[test]
fn impossible_sizes_are_refused() {
    for n in [0, 1, u32::MAX as usize, usize::MAX] {
        assert_eq!(BlockPool::new(n).unwrap_err(), KvError::NumBlocks(n));
    }
}
