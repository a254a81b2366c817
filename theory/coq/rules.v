(* Rank rules over any field, each proved from MathComp's matrix algebra.
   A matrix in block form is a col_mx of row_mx; identities between block matrices are proved by
   expanding products block by block, then comparing sums of words as integer combinations. *)
From Coq Require Import ZArith Lia.
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Delimit Scope Z_scope with Z.

(* ---- sums of words as integer combinations ------------------------------------------------ *)
Inductive sum_term := Word of nat | Zero | Plus of sum_term & sum_term | Minus of sum_term
  | Times of sum_term & nat.

Local Open Scope ring_scope.

Section Sums.
Variable V : zmodType.
Implicit Types (e : seq V) (t : sum_term).

Fixpoint value e t : V := match t with
  | Word i => e`_i | Zero => 0 | Plus a b => value e a + value e b
  | Minus a => - value e a | Times a k => value e a *+ k end.

Fixpoint weight t (i : nat) : int := match t with
  | Word j => (i == j)%:Z | Zero => 0 | Plus a b => weight a i + weight b i
  | Minus a => - weight a i | Times a k => weight a i *+ k end.

Lemma value_weight e t : value e t = \sum_(i < size e) e`_i *~ weight t i.
Proof.
elim: t => [j||a iha b ihb|a iha|a iha k] /=; rewrite ?iha ?ihb.
- case: (ltnP j (size e)) => [lt|ge].
    rewrite (bigD1 (Ordinal lt)) //= eqxx mulr1z big1 ?addr0 // => i.
    by rewrite -val_eqE /= => /negbTE ->; rewrite mulr0z.
  rewrite nth_default // big1 // => i _.
  by rewrite ltn_eqF ?mulr0z // (leq_trans (ltn_ord i)).
- by rewrite big1 // => i _; rewrite mulr0z.
- by rewrite -big_split; apply: eq_bigr => i _; rewrite mulrzDl.
- by rewrite -sumrN; apply: eq_bigr => i _; rewrite mulrNz.
- by rewrite -sumrMnl; apply: eq_bigr => i _; rewrite -[in RHS]mulr_natr natz mulrzA pmulrn.
Qed.

Lemma same_sum e s t :
  all (fun i => weight s i == weight t i) (iota 0 (size e)) -> value e s = value e t.
Proof.
move=> /allP H; rewrite !value_weight; apply: eq_bigr => i _.
by rewrite (eqP (H i _)) // mem_iota /= add0n ltn_ord.
Qed.
End Sums.

Ltac position x l :=
  lazymatch l with
  | x :: _ => constr:(O)
  | _ :: ?r => let n := position x r in constr:(S n)
  end.
Ltac adjoin x l :=
  lazymatch l with
  | context [x :: _] => l
  | _ => constr:(x :: l)
  end.
Ltac words l t :=
  lazymatch t with
  | 0 => l
  | ?a + ?b => let l := words l a in words l b
  | - ?a => words l a
  | ?a *+ _ => words l a
  | _ => adjoin t l
  end.
Ltac quote_sum l t :=
  lazymatch t with
  | 0 => constr:(Zero)
  | ?a + ?b => let a := quote_sum l a in let b := quote_sum l b in constr:(Plus a b)
  | - ?a => let a := quote_sum l a in constr:(Minus a)
  | ?a *+ ?k => let a := quote_sum l a in constr:(Times a k)
  | _ => let n := position t l in constr:(Word n)
  end.
Ltac compare_sums :=
  lazymatch goal with
  | |- @eq ?T ?s ?t =>
    let l := words (@nil T) s in let l := words l t in
    let a := quote_sum l s in let b := quote_sum l t in
    refine (@same_sum _ l a b _); vm_compute; reflexivity
  end.

(* ---- block matrices ------------------------------------------------------------------------ *)
Section Scaling.
Variable F : fieldType.
Lemma mulmx_natl m n p (A : 'M[F]_(m, n)) (B : 'M_(n, p)) k : (A *+ k) *m B = (A *m B) *+ k.
Proof. by elim: k => [|k ih]; rewrite ?mulr0n ?mul0mx // !mulrS mulmxDl ih. Qed.
Lemma mulmx_natr m n p (A : 'M[F]_(m, n)) (B : 'M_(n, p)) k : A *m (B *+ k) = (A *m B) *+ k.
Proof. by elim: k => [|k ih]; rewrite ?mulr0n ?mulmx0 // !mulrS mulmxDr ih. Qed.
Lemma tr_sum m n (A B : 'M[F]_(m, n)) : (A + B)^T = A^T + B^T.
Proof. exact: linearD. Qed.
Lemma tr_minus m n (A : 'M[F]_(m, n)) : (- A)^T = - A^T.
Proof. exact: linearN. Qed.
Lemma tr_times m n (A : 'M[F]_(m, n)) k : (A *+ k)^T = A^T *+ k.
Proof. exact: linearMn. Qed.
End Scaling.

Ltac expand_blocks := rewrite ?(mul_col_mx, mul_row_col, mul_mx_row, add_row_mx, add_col_mx,
  opp_row_mx, opp_col_mx, tr_row_mx, tr_col_mx, mul_row_block, mul_block_col, mulmx_block).
Ltac expand_words := rewrite ?(mulmxDl, mulmxDr, mulmxN, mulNmx, mulmx_natl, mulmx_natr,
  mulmx1, mul1mx, mulmx0, mul0mx, trmx0, trmx1, trmxK, trmx_mul, tr_sum, tr_minus, tr_times, mulrnDl, mulNrn) -?mulmxA.
Ltac split_blocks := repeat first [apply: (f_equal2 (@col_mx _ _ _ _)) | apply: (f_equal2 (@row_mx _ _ _ _))].
Ltac identity := expand_blocks; split_blocks; expand_words; compare_sums.

(* ---- rank rules ---------------------------------------------------------------------------- *)
Notation rk M := (Z.of_nat (\rank (M)%R)).

Section Rules.
Variable F : fieldType.
Implicit Types m n p q r : nat.

Lemma leZ (a b : nat) : (a <= b)%N -> (0 <= Z.of_nat b - Z.of_nat a)%Z.
Proof. by move/leP => h; lia. Qed.

Lemma natZ (a b : nat) : Z.of_nat (a + b)%N = (Z.of_nat a + Z.of_nat b)%Z.
Proof. by rewrite -plusE Nat2Z.inj_add. Qed.

Lemma rule_frobenius m n p q (A : 'M[F]_(m, n)) (B : 'M_(n, p)) (C : 'M_(p, q)) AB BC ABC :
  A *m B = AB -> B *m C = BC -> AB *m C = ABC -> (0 <= rk B + rk ABC - rk AB - rk BC)%Z.
Proof.
by move=> <- <- <-; have := leZ (mxrank_Frobenius A B C); rewrite !natZ; lia.
Qed.

Lemma rule_product m n p q (P : 'M[F]_(m, n)) (M : 'M_(n, p)) (Q : 'M_(p, q)) PM PMQ :
  P *m M = PM -> PM *m Q = PMQ -> (0 <= rk M - rk PMQ)%Z.
Proof.
move=> <- <-; apply: leZ.
exact: leq_trans (mxrankM_maxl _ _) (mxrankM_maxr _ _).
Qed.

Lemma rule_sum m n (A B AB : 'M[F]_(m, n)) : A + B = AB -> (0 <= rk A + rk B - rk AB)%Z.
Proof. by move=> <-; have := leZ (mxrank_add A B); rewrite natZ. Qed.

Lemma rule_rows m n (A : 'M[F]_(m, n)) : (0 <= Z.of_nat m - rk A)%Z.
Proof. exact: leZ (rank_leq_row A). Qed.

Lemma rule_columns m n (A : 'M[F]_(m, n)) : (0 <= Z.of_nat n - rk A)%Z.
Proof. exact: leZ (rank_leq_col A). Qed.

Lemma rule_inverse m n (A : 'M[F]_(m, n)) B : A *m B = 1%:M -> (0 <= rk A - Z.of_nat m)%Z.
Proof. by move=> e; apply: leZ; rewrite -{1}(mxrank1 F m) -e mxrankM_maxl. Qed.

Lemma rule_zero m n (A : 'M[F]_(m, n)) : A = 0 -> (0 <= 0 - rk A)%Z.
Proof. by move=> ->; rewrite mxrank0. Qed.

Lemma rule_transpose m n (A : 'M[F]_(m, n)) AT : A^T = AT -> (0 <= rk A - rk AT)%Z.
Proof. by move=> <-; rewrite mxrank_tr; lia. Qed.

Lemma rule_ingleton a b c d n (A : 'M[F]_(a, n)) (B : 'M_(b, n)) (C : 'M_(c, n)) (D : 'M_(d, n))
    AB AC AD BC BD CD ABC ABD :
  col_mx A B = AB -> col_mx A C = AC -> col_mx A D = AD -> col_mx B C = BC -> col_mx B D = BD ->
  col_mx C D = CD -> col_mx A (col_mx B C) = ABC -> col_mx A (col_mx B D) = ABD ->
  (0 <= rk AB + rk AC + rk AD + rk BC + rk BD - rk A - rk B - rk CD - rk ABC - rk ABD)%Z.
Proof.
move=> <- <- <- <- <- <- <- <-.
have stack p q (X : 'M[F]_(p, n)) (Y : 'M_(q, n)) : \rank (col_mx X Y) = \rank (X + Y)%MS.
  by rewrite addsmxE.
have side p (X : 'M[F]_(p, n)) :
    (\rank (A :&: B + X)%MS + \rank (col_mx A (col_mx B X)) <= \rank (A + X)%MS + \rank (B + X)%MS)%N.
  rewrite -(mxrank_sum_cap (A + X)%MS (B + X)%MS) addnC; apply: leq_add; apply: mxrankS.
    rewrite -addsmxE addsmx_sub (submx_trans (addsmxSl A X) (addsmxSl _ _)) /=.
    rewrite -addsmxE addsmx_sub (submx_trans (addsmxSl B X) (addsmxSr _ _)) /=.
    exact: submx_trans (addsmxSr A X) (addsmxSl _ _).
  rewrite sub_capmx; apply/andP; split; apply: addsmxS => //.
    exact: capmxSl.
  exact: capmxSr.
have inside : (\rank (A :&: B :&: C)%MS + \rank (A :&: B :&: D)%MS
    <= \rank (A :&: B)%MS + \rank (C :&: D)%MS)%N.
  rewrite -(mxrank_sum_cap (A :&: B :&: C)%MS (A :&: B :&: D)%MS); apply: leq_add; apply: mxrankS.
    by rewrite addsmx_sub !capmxSl.
  rewrite sub_capmx (submx_trans (capmxSl _ _) (capmxSr _ _)).
  exact: submx_trans (capmxSr _ _) (capmxSr _ _).
have le4 (x y z w : nat) :
    (x + y <= z + w)%N -> (Z.of_nat x + Z.of_nat y <= Z.of_nat z + Z.of_nat w)%Z.
  by rewrite -!plusE => /leP; lia.
have eq4 (x y z w : nat) :
    (x + y = z + w)%N -> (Z.of_nat x + Z.of_nat y = Z.of_nat z + Z.of_nat w)%Z.
  by rewrite -!plusE; lia.
have := le4 _ _ _ _ (side _ C); have := le4 _ _ _ _ (side _ D); have := le4 _ _ _ _ inside.
have := eq4 _ _ _ _ (mxrank_sum_cap A B); have := eq4 _ _ _ _ (mxrank_sum_cap C D).
have := eq4 _ _ _ _ (mxrank_sum_cap (A :&: B)%MS C).
have := eq4 _ _ _ _ (mxrank_sum_cap (A :&: B)%MS D).
rewrite (stack _ _ A B) (stack _ _ A C) (stack _ _ A D) (stack _ _ B C) (stack _ _ B D).
rewrite (stack _ _ C D); lia.
Qed.

Lemma rule_positive m n (A : 'M[F]_(m, n)) : (0 <= rk A)%Z.
Proof. exact: Zle_0_nat. Qed.
End Rules.

(* ---- a goal as a sum of rules, each with its multiplier -------------------------------------- *)
Lemma scaled (k s t : Z) : Z.leb 0 k = true -> (0 <= s)%Z -> (0 <= t)%Z -> (0 <= k * s + t)%Z.
Proof. by move/Z.leb_le => hk hs ht; apply: Z.add_nonneg_nonneg => //; apply: Z.mul_nonneg_nonneg. Qed.

Lemma constant (k : Z) : Z.leb 0 k = true -> (0 <= k)%Z.
Proof. by move/Z.leb_le. Qed.

Lemma conclude (d s g : Z) : Z.ltb 0 d = true -> (0 <= s)%Z -> (d * g = s)%Z -> (0 <= g)%Z.
Proof. move/Z.ltb_lt => hd hs e; nia. Qed.
