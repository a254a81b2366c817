(* The catalogue's rows about n maps, for every n: diminishing, bottleneck, chain-sylvester,
   residual-stack, powers. Map number k goes from width d k to width d k.+1. *)
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

Section Chain.
Variables (F : fieldType) (d : nat -> nat) (J : forall k, 'M[F]_(d k.+1, d k)).

(* the product of the first n maps *)
Fixpoint chain n : 'M[F]_(d n, d 0) :=
  match n return 'M[F]_(d n, d 0) with 0%N => 1%:M | k.+1 => J k *m chain k end.

(* segment i j M: M is the product of maps number i up to, not including, j *)
Inductive segment (i : nat) : forall j, 'M[F]_(d j, d i) -> Prop :=
  | segment_empty : segment (1%:M : 'M[F]_(d i, d i))
  | segment_next j (M : 'M[F]_(d j, d i)) : segment M -> segment (J j *m M).

Lemma chain_segment n : segment (chain n).
Proof. by elim: n => [|n ih]; [exact: segment_empty | exact: segment_next ih]. Qed.

(* a segment factors at every point between its ends *)
Lemma segment_split i j (M : 'M[F]_(d j, d i)) : segment M ->
  forall m, (i <= m)%N -> (m <= j)%N ->
  exists (M1 : 'M_(d m, d i)) (M2 : 'M_(d j, d m)), [/\ segment M1, segment M2 & M = M2 *m M1].
Proof.
elim=> [m im mi|{M} {}j M sM ih m im].
  have e : m = i by apply/eqP; rewrite eqn_leq im mi.
  by subst m; exists 1%:M, 1%:M; split; [exact: segment_empty | exact: segment_empty | rewrite mulmx1].
rewrite leq_eqVlt => /orP[/eqP e|mj].
  subst m; exists (J j *m M), 1%:M.
  by split; [exact: segment_next sM | exact: segment_empty | rewrite mul1mx].
have [M1 [M2 [s1 s2 ->]]] := ih m im mj.
by exists M1, (J j *m M2); split; [| exact: segment_next s2 | rewrite mulmxA].
Qed.

Theorem diminishing n : (\rank (chain n.+1) <= \rank (chain n))%N.
Proof. exact: mxrankM_maxr. Qed.

Theorem diminishing_partial n p (P : 'M[F]_(d 0, p)) :
  (\rank (chain n.+1 *m P) <= \rank (chain n *m P))%N.
Proof. by rewrite /= -mulmxA mxrankM_maxr. Qed.

Theorem bottleneck_width i j (M : 'M[F]_(d j, d i)) m : segment M ->
  (i <= m)%N -> (m <= j)%N -> (\rank M <= d m)%N.
Proof.
move=> sM im mj; have [M1 [M2 [_ _ ->]]] := segment_split sM im mj.
by apply: leq_trans (mxrankM_maxl _ _) (rank_leq_col _).
Qed.

Theorem bottleneck_part i j (M : 'M[F]_(d j, d i)) a b : segment M ->
  (i <= a)%N -> (a <= b)%N -> (b <= j)%N ->
  exists2 N : 'M_(d b, d a), segment N & (\rank M <= \rank N)%N.
Proof.
move=> sM ia ab bj; have [M1 [M2 [s1 _ ->]]] := segment_split sM (leq_trans ia ab) bj.
have [N1 [N [_ sN ->]]] := segment_split s1 ia ab; exists N => //.
exact: leq_trans (mxrankM_maxr _ _) (mxrankM_maxl _ _).
Qed.

Theorem chain_sylvester n :
  (\sum_(k < n.+1) \rank (J k) <= \rank (chain n.+1) + \sum_(1 <= k < n.+1) d k)%N.
Proof.
elim: n => [|n ih]; first by rewrite big_ord1 big_nil addn0 /= mulmx1.
rewrite big_ord_recr big_nat_recr //= addnA.
have := mxrank_mul_min (J n.+1) (chain n.+1); rewrite leq_subLR => h.
rewrite addnAC addnC; apply: leq_trans (leq_add (leqnn _) ih) _.
by rewrite addnA leq_add2r addnC [X in (_ <= X)%N]addnC addnC.
Qed.
End Chain.

Section Residual.
Variables (F : fieldType) (n p : nat) (G : nat -> 'M[F]_n) (V0 : 'M[F]_(n, p)).

(* the features after k residual blocks *)
Fixpoint features k : 'M[F]_(n, p) :=
  if k is l.+1 then (1%:M + G l) *m features l else V0.

Theorem residual_stack k :
  (\rank V0 <= \rank (features k) + \sum_(l < k) \rank (G l *m features l))%N.
Proof.
elim: k => [|k ih]; first by rewrite big_ord0 addn0.
apply: leq_trans ih _; rewrite big_ord_recr /= [X in (_ <= _ + X)%N]addnC addnA leq_add2r.
have {1}-> : features k = (1%:M + G k) *m features k + - (G k *m features k).
  by rewrite mulmxDl mul1mx addrK.
by apply: leq_trans (mxrank_add _ _) _; rewrite mxrank_opp.
Qed.
End Residual.

Section Powers.
Variables (F : fieldType) (n : nat) (A : 'M[F]_n).

Fixpoint power k : 'M[F]_n := if k is l.+1 then A *m power l else 1%:M.

Lemma power_right k : power k *m A = power k.+1.
Proof. by elim: k => [|k ih] /=; rewrite ?mul1mx ?mulmx1 // -mulmxA ih. Qed.

Theorem powers k : (2 * \rank (power k.+1) <= \rank (power k) + \rank (power k.+2))%N.
Proof.
by have := mxrank_Frobenius A (power k) A; rewrite -mulmxA !power_right /= mul2n -addnn.
Qed.
End Powers.

Definition all_n := (@diminishing, @diminishing_partial, @bottleneck_width, @bottleneck_part,
  @chain_sylvester, @residual_stack, @powers).
Print Assumptions all_n.
