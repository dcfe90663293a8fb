use millrace_types::TokenId;
use proptest::prelude::*;

use super::twin::TwinPool;
use crate::{BlockManager, BlockTable, HashChain, KvConfig, KvError, PrefixKeys, PrefixStats, Slots};

/// A sequence's salt and its tokens up to the end of a block: what a block's name stands for.
type Content = (u8, Vec<TokenId>);

/// A whole sequence, real and naive side by side.
struct Pair {
    salt: u8,
    tokens: Vec<TokenId>,
    chain: HashChain,
    table: BlockTable,
    computed: usize,
    twin_table: Vec<u32>,
    twin_sealed: usize,
}

/// The rules of allocation over a [`TwinPool`].
struct Twin {
    pool: TwinPool<Content>,
    block_size: usize,
    caching: bool,
    window: Option<usize>,
    stats: PrefixStats,
}

impl Twin {
    /// Whether the token at `position` sees any of block `index`.
    fn sees(&self, position: usize, index: usize) -> bool {
        let last = (index + 1) * self.block_size - 1;
        self.window.is_none_or(|window| last + window > position)
    }

    fn lookup(&self, salt: u8, tokens: &[TokenId]) -> usize {
        let limit = if self.caching { (tokens.len() - 1) / self.block_size } else { 0 };
        let is_cached =
            |i: usize| self.pool.find(&(salt, tokens[..(i + 1) * self.block_size].to_vec())).is_some();
        let is_hit = |n: &usize| (0..*n).all(|i| !self.sees(n * self.block_size, i) || is_cached(i));
        (0..=limit).rev().find(is_hit).unwrap()
    }

    fn allocate(&mut self, pair: &mut Pair, hit: usize, slots: Slots) -> bool {
        let skipped = (0..hit).filter(|i| !self.sees(hit * self.block_size, *i)).count();
        let contents: Vec<Content> =
            (skipped + 1..=hit).map(|n| (pair.salt, pair.tokens[..n * self.block_size].to_vec())).collect();
        let blocks =
            |tokens: usize| tokens.div_ceil(self.block_size).saturating_sub(pair.twin_table.len() + hit);
        let found = contents.iter().filter_map(|content| self.pool.find(content));
        let idle = found.filter(|block| self.pool.refs[*block as usize] == 0).count();
        let needed = blocks(slots.now.max(slots.whole)) + idle;
        let count = blocks(slots.now);
        if needed > 0 && needed + slots.reserved > self.pool.queue.len() {
            return false;
        }
        pair.twin_table.resize(pair.twin_table.len() + skipped, 0);
        for content in &contents {
            pair.twin_table.push(self.pool.share(content).unwrap());
        }
        pair.twin_sealed = pair.twin_sealed.max(hit);
        for _ in 0..count {
            pair.twin_table.push(self.pool.take().unwrap());
        }
        true
    }

    fn seal(&mut self, pair: &mut Pair) {
        while self.caching && pair.twin_sealed < pair.computed / self.block_size {
            let i = pair.twin_sealed;
            let content = (pair.salt, pair.tokens[..(i + 1) * self.block_size].to_vec());
            // What is skipped before it was sealed is lost.
            if pair.twin_table[i] != 0 {
                self.pool.seal(pair.twin_table[i], content);
            }
            pair.twin_sealed += 1;
        }
    }

    fn skip(&mut self, pair: &mut Pair, position: usize) {
        let out_of_sight = (0..pair.twin_table.len()).filter(|index| !self.sees(position, *index));
        for index in out_of_sight.collect::<Vec<_>>() {
            let block = std::mem::replace(&mut pair.twin_table[index], 0);
            if block != 0 {
                self.pool.free(block);
            }
            pair.twin_sealed = pair.twin_sealed.max(index + 1);
        }
    }

    fn release(&mut self, pair: &mut Pair) {
        while let Some(block) = pair.twin_table.pop() {
            if block != 0 {
                self.pool.free(block);
            }
        }
        pair.twin_sealed = 0;
    }
}

#[derive(Debug, Clone)]
enum Op {
    Start { salt: u8, tokens: Vec<TokenId>, first_chunk: usize, whole: bool, reserved: usize },
    Step { seq: usize, tokens: Vec<TokenId>, skip_first: bool },
    Release(usize),
    DropUnused,
    Reset,
}

fn op() -> impl Strategy<Value = Op> {
    let tokens = |len| prop::collection::vec(0_u32..2, len);
    prop_oneof![
        4 => (0_u8..2, tokens(1..24), 1_usize..24, any::<bool>(), 0_usize..3).prop_map(
            |(salt, tokens, first_chunk, whole, reserved)| Op::Start { salt, tokens, first_chunk, whole, reserved },
        ),
        8 => (any::<usize>(), tokens(0..6), prop::bool::weighted(0.1))
            .prop_map(|(seq, tokens, skip_first)| Op::Step { seq, tokens, skip_first }),
        3 => any::<usize>().prop_map(Op::Release),
        1 => Just(Op::DropUnused),
        1 => Just(Op::Reset),
    ]
}

fn start(manager: &mut BlockManager, twin: &mut Twin, op: (u8, Vec<TokenId>, usize, Slots)) -> Option<Pair> {
    let (salt, tokens, first_chunk, slots) = op;
    let keys = PrefixKeys { cache_salt: (salt > 0).then(|| "salt".to_owned()), ..PrefixKeys::default() };
    let mut chain = HashChain::new(twin.block_size, keys);
    chain.extend(&tokens);
    let mut pair = Pair {
        salt,
        tokens,
        chain,
        table: BlockTable::default(),
        computed: 0,
        twin_table: Vec::new(),
        twin_sealed: 0,
    };
    let twin_hit = twin.lookup(salt, &pair.tokens);
    let hit = manager.lookup(&pair.chain, pair.tokens.len());
    assert_eq!(hit.tokens(), twin_hit * twin.block_size, "longest cached prefix");
    pair.computed = hit.tokens();
    let now = (pair.computed + first_chunk).min(pair.tokens.len());
    let slots = Slots { now, ..slots };
    let allocated = hit.allocate(&mut pair.table, slots).is_ok();
    assert_eq!(allocated, twin.allocate(&mut pair, twin_hit, slots), "room");
    if !allocated {
        assert!(pair.table.is_empty());
        return None;
    }
    twin.stats.queries += pair.tokens.len() as u64;
    twin.stats.hits += pair.computed as u64;
    pair.computed = now;
    Some(pair)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn manager_equals_its_twin(
        num_blocks in 2_u32..14,
        block_size in 1_usize..5,
        caching in prop::bool::weighted(0.8),
        window in prop::option::of(1_usize..12),
        ops in prop::collection::vec(op(), 0..60),
    ) {
        let config = KvConfig { num_blocks: num_blocks as usize, block_size, prefix_caching: caching, window };
        let mut manager = BlockManager::new(config).unwrap();
        let stats = PrefixStats::default();
        let mut twin = Twin { pool: TwinPool::new(num_blocks), block_size, caching, window, stats };
        let mut pairs: Vec<Pair> = Vec::new();
        for op in ops {
            match op {
                Op::Start { salt, tokens, first_chunk, whole, reserved } => {
                    let slots = Slots { whole: if whole { tokens.len() } else { 0 }, reserved, now: 0 };
                    pairs.extend(start(&mut manager, &mut twin, (salt, tokens, first_chunk, slots)));
                }
                Op::Step { seq, tokens, skip_first } => if let Some(i) = seq.checked_rem(pairs.len()) {
                    let pair = &mut pairs[i];
                    // What was planned before is computed now, and some of it out of sight; then room for the next tokens.
                    pair.chain.extend(&pair.tokens[..pair.computed]);
                    for skip in [skip_first, !skip_first] {
                        if skip {
                            manager.skip(&mut pair.table, pair.computed);
                            twin.skip(pair, pair.computed);
                        } else {
                            manager.seal(&mut pair.table, &pair.chain, pair.computed);
                            twin.seal(pair);
                        }
                    }
                    pair.tokens.extend(tokens);
                    let now = pair.tokens.len();
                    let grown = manager.grow(&mut pair.table, now).is_ok();
                    prop_assert_eq!(grown, twin.allocate(pair, 0, Slots { now, ..Slots::default() }));
                    if grown {
                        pair.computed = now;
                    }
                },
                Op::Release(i) => if let Some(i) = i.checked_rem(pairs.len()) {
                    let mut pair = pairs.swap_remove(i);
                    manager.release(&mut pair.table);
                    twin.release(&mut pair);
                    prop_assert!(pair.table.is_empty());
                },
                Op::DropUnused => prop_assert_eq!(manager.drop_unused_cache(), twin.pool.drop_unused()),
                Op::Reset => prop_assert_eq!(manager.reset_prefix_cache(), twin.pool.reset()),
            }
            prop_assert_eq!(manager.pool().free_queue(), twin.pool.queue.clone());
            prop_assert_eq!(manager.pool().num_used(), twin.pool.refs.iter().filter(|r| **r > 0).count());
            prop_assert_eq!(manager.pool().num_cached(), twin.pool.num_cached());
            prop_assert_eq!(manager.stats(), twin.stats);
            for pair in &pairs {
                let ids: Vec<u32> = pair.table.ids().iter().map(|block| block.0).collect();
                prop_assert_eq!(&ids, &pair.twin_table);
                prop_assert_eq!(pair.table.num_sealed(), pair.twin_sealed);
            }
        }
        for mut pair in pairs {
            manager.release(&mut pair.table);
        }
        prop_assert_eq!(manager.pool().num_used(), 0);
    }
}

#[test]
fn a_refused_allocation_changes_nothing() {
    let config = KvConfig { num_blocks: 5, block_size: 2, prefix_caching: true, window: None };
    let mut manager = BlockManager::new(config).unwrap();
    let tokens = [1, 2, 3, 4, 5];
    let mut chain = HashChain::new(2, PrefixKeys::default());
    chain.extend(&tokens);
    let mut table = BlockTable::default();
    manager.grow(&mut table, 5).unwrap();
    manager.seal(&mut table, &chain, 5);
    manager.release(&mut table);
    let before = manager.pool().free_queue();
    assert_eq!(before, [3, 4, 2, 1], "unhashed first, then the cached tail before the cached head");

    let slots = Slots { now: 5, whole: 9, reserved: 0 };
    let hit = manager.lookup(&chain, tokens.len());
    assert_eq!(hit.tokens(), 4);
    // Five blocks in all, two of them found but idle: they leave the queue as well.
    assert_eq!(hit.allocate(&mut table, slots), Err(KvError::OutOfBlocks { needed: 5, free: 4 }));
    assert!(table.is_empty());
    assert_eq!(manager.pool().free_queue(), before);
    assert_eq!(manager.stats(), PrefixStats::default());
    assert_eq!(manager.usage(), 0.0);
}

#[test]
fn the_last_token_is_never_served_from_the_cache() {
    let config = KvConfig { num_blocks: 8, block_size: 2, prefix_caching: true, window: None };
    let mut manager = BlockManager::new(config).unwrap();
    let mut chain = HashChain::new(2, PrefixKeys::default());
    chain.extend(&[1, 2, 3, 4]);
    let mut table = BlockTable::default();
    manager.grow(&mut table, 4).unwrap();
    manager.seal(&mut table, &chain, 3);
    assert_eq!(manager.lookup(&chain, 4).tokens(), 2, "only what was computed");
    manager.seal(&mut table, &chain, 4);
    assert_eq!(manager.lookup(&chain, 4).tokens(), 2, "one token is left to compute");
    assert_eq!(manager.lookup(&chain, 5).tokens(), 4);
    assert_eq!(manager.no_prefix().tokens(), 0);
    manager.release(&mut table);
}

#[test]
fn a_hit_needs_only_what_the_next_token_sees() {
    let config = KvConfig { num_blocks: 12, block_size: 2, prefix_caching: true, window: Some(4) };
    let mut manager = BlockManager::new(config).unwrap();
    let tokens: Vec<TokenId> = (0..12).collect();
    let mut chain = HashChain::new(2, PrefixKeys::default());
    chain.extend(&tokens);
    let mut table = BlockTable::default();
    manager.grow(&mut table, 12).unwrap();
    manager.seal(&mut table, &chain, 12);
    // Token 12 sees 9, 10 and 11: four blocks are behind it.
    manager.skip(&mut table, 12);
    let ids: Vec<u32> = table.ids().iter().map(|block| block.0).collect();
    assert_eq!((ids, manager.pool().num_used()), (vec![0, 0, 0, 0, 5, 6], 2));
    // The first three are taken by somebody else, and their contents are gone.
    let mut other = BlockTable::default();
    manager.grow(&mut other, 2 * 8).unwrap();
    let mut again = BlockTable::default();
    let hit = manager.lookup(&chain, 13);
    assert_eq!(hit.tokens(), 12);
    hit.allocate(&mut again, Slots { now: 13, ..Slots::default() }).unwrap();
    let ids: Vec<u32> = again.ids().iter().map(|block| block.0).collect();
    assert_eq!(ids[..6], [0, 0, 0, 0, 5, 6]);
    // A shorter one would need blocks that are gone.
    assert_eq!(manager.lookup(&chain, 9).tokens(), 0);
    for table in [&mut table, &mut other, &mut again] {
        manager.release(table);
    }
    assert_eq!(manager.pool().num_used(), 0);
}

#[test]
fn impossible_block_sizes_are_refused() {
    for block_size in [0, 65537] {
        let config = KvConfig { num_blocks: 8, block_size, prefix_caching: true, window: None };
        assert_eq!(BlockManager::new(config).unwrap_err(), KvError::BlockSize(block_size));
    }
}
