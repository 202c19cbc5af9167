def run(chosen, folder, paint): raise SystemExit(70)
